"""scikit-learn's bundled digits, small splits of them, and shifts: the fixtures of the transfer tests."""

from functools import cache

import numpy as np
from sklearn.datasets import load_digits


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels in 0..1, [1797 64], and labels [1797]."""
    data = load_digits()
    return data.data / 16.0, data.target.astype(np.int64)


def few(labels: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Rows of ``count`` records of each class."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(np.flatnonzero(labels == label))[:count] for label in np.unique(labels)])


def halves(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a source half and of a target half."""
    order = np.random.default_rng(seed).permutation(len(digits()[1]))
    return order[:900], order[900:]


def random_features(dim: int, seed: int = 0) -> np.ndarray:
    """What a random one-layer encoder says of the digits, [1797 dim]."""
    rng = np.random.default_rng(seed)
    return np.tanh(digits()[0] @ rng.normal(size=(64, dim)) / 4)
