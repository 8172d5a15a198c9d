"""How many records weighted ones are worth. Never imports torch."""

import numpy as np


def effective_size(weights: np.ndarray) -> float:
    """(sum w)^2 / sum w^2: as many records alike would say as much (Kish, 1965).

    >>> effective_size(np.array([1.0, 1.0, 0.0]))
    2.0
    """
    return float(weights.sum() ** 2 / (weights**2).sum())
