"""Raw outputs whose size varies between records: how they are padded and joined. Never imports torch."""

from collections.abc import Sequence

import numpy as np

PADDING = -1e4
"""Of outputs at positions that a record does not have; not -inf: float16 overflows, and sums of it are NaN."""


def is_real(outputs: np.ndarray) -> np.ndarray:
    """Positions ``[b ...]`` of outputs ``[b ... c]`` that are no padding, bool.

    >>> is_real(np.array([[[1.0, 2.0], [PADDING, PADDING]]])).tolist()
    [[True, False]]
    """
    return np.asarray((outputs > PADDING / 2).any(axis=-1))


def join_outputs(batches: Sequence[np.ndarray]) -> np.ndarray:
    """Joins batches along the records, each axis padded to the largest of them.

    >>> join_outputs([np.zeros((1, 1)), np.ones((1, 2))]).tolist()
    [[0.0, -10000.0], [1.0, 1.0]]
    """
    shape = tuple(max(sizes) for sizes in zip(*(batch.shape[1:] for batch in batches), strict=True))
    if all(batch.shape[1:] == shape for batch in batches):
        return np.concatenate(batches)
    return np.concatenate([_padded(batch, shape) for batch in batches])


def _padded(batch: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    missing = [(0, 0), *((0, size - own) for own, size in zip(batch.shape[1:], shape, strict=True))]
    return np.pad(batch, missing, constant_values=PADDING)
