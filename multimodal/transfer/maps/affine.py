"""Affine maps of features, x -> x A + b. Never imports torch."""

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
    """A, [d k]; or its diagonal [d], where each feature is only scaled: A would be large."""
    offset: np.ndarray
    """b, [k]."""

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Mapped features, [n k], of features [n d]."""
        features = check_features(features)
        if features.shape[1] != len(self.matrix):
            raise ValueError(
                f"features have dimension {features.shape[1]}, but the map was fitted to {len(self.matrix)}; "
                "take them from the same encoder"
            )
        return _times(features, self.matrix) + self.offset

    def then(self, following: "AffineMap") -> "AffineMap":
        """Composition: this map, then the following one."""
        scales = self.matrix.ndim == 1 and following.matrix.ndim == 2
        matrix = self.matrix[:, None] * following.matrix if scales else _times(self.matrix, following.matrix)
        return AffineMap(matrix, _times(self.offset, following.matrix) + following.offset)

    def fold(self, weights: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights [c k] and bias [c] of a linear layer behind this map -> those [c d], [c] without it."""
        return _times(weights, self.matrix.T), bias + weights @ self.offset


@dataclass(frozen=True, eq=False)
class DomainMaps:
    """A map for each domain into one common space; a model that was trained there is folded with the target's."""

    source: AffineMap
    target: AffineMap


def identity(dim: int) -> AffineMap:
    """The map that changes nothing."""
    return AffineMap(np.ones(dim), np.zeros(dim))


def _times(left: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return left * matrix if matrix.ndim == 1 else left @ matrix
