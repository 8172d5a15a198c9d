"""What almost every feature map is in the end: x -> x A + b. Never imports torch."""

from dataclasses import dataclass

import numpy as np

from multimodal.transfer.checks import check_features


@dataclass(frozen=True, eq=False)
class AffineMap:
    """x -> x A + b.

    >>> AffineMap(np.eye(2), np.ones(2)).transform(np.array([[1.0, 2.0]]))
    array([[2., 3.]])
    """

    matrix: np.ndarray
    """A, [d k]."""
    offset: np.ndarray
    """b, [k]."""

    def transform(self, features: np.ndarray) -> np.ndarray:
        """The mapped features, [n k].

        Raises:
            ValueError: if the features [n d] have another width than those it was fitted to.
        """
        features = check_features(features)
        if features.shape[1] != len(self.matrix):
            raise ValueError(
                f"features are {features.shape[1]} wide, but the map was fitted to {len(self.matrix)}; "
                "take them from the same encoder"
            )
        return features @ self.matrix + self.offset

    def then(self, following: "AffineMap") -> "AffineMap":
        """Both in one: first this one."""
        return AffineMap(self.matrix @ following.matrix, self.offset @ following.matrix + following.offset)

    def fold(self, weights: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights [c k] and bias [c] of a linear layer behind this map -> those [c d], [c] without it."""
        return weights @ self.matrix.T, bias + weights @ self.offset


@dataclass(frozen=True, eq=False)
class DomainMaps:
    """A map for each domain into one common space; a model that was trained there is folded with the target's."""

    source: AffineMap
    target: AffineMap


def identity(width: int) -> AffineMap:
    """The map that changes nothing."""
    return AffineMap(np.eye(width), np.zeros(width))
