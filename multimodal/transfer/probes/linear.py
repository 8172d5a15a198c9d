"""What every linear probe ends as: weights and a bias, as a linear layer has them. Never imports torch."""

from dataclasses import dataclass

import numpy as np

from multimodal.transfer.maps.affine import AffineMap


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """logits = x W' + b, to be copied into a linear layer as it is."""

    weights: np.ndarray
    """W, [c d]."""
    bias: np.ndarray
    """b, [c]."""

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Of features [n d], [n c]."""
        return np.asarray(features, dtype=np.float64) @ self.weights.T + self.bias

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Class of each record, int [n]."""
        return self.logits(features).argmax(axis=1)

    def log_probabilities(self, features: np.ndarray) -> np.ndarray:
        """Of each class, [n c]."""
        return log_softmax(self.logits(features))

    def after(self, first: AffineMap) -> "LinearClassifier":
        """The classifier that gives for x what this one gives for the mapped x.

        >>> halved = AffineMap(np.array([[0.5]]), np.array([1.0]))
        >>> LinearClassifier(np.array([[4.0]]), np.zeros(1)).after(halved).logits(np.array([[2.0]]))
        array([[8.]])
        """
        return LinearClassifier(*first.fold(self.weights, self.bias))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the probabilities, [n c]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
