"""Ranking records by how near they are to each other. Never imports torch."""

from typing import NamedTuple

import numpy as np

_ROWS_AT_A_TIME = 256  # 100 MB at 100,000 records


class Ranks(NamedTuple):
    """Of the n records that have another one of their label."""

    first: np.ndarray
    """Place, from 1, of the nearest record of the same label, int [n]."""
    precision: np.ndarray
    """Average precision of the whole ranking, [n]."""


def rank_partners(embeddings: np.ndarray, labels: np.ndarray) -> Ranks:
    """Ranks, for each record, all others by their cosine. Among equally near ones those of other labels come first.

    Args:
        embeddings: of length 1, [n d].
        labels: equal where records belong together, [n].

    >>> near = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    >>> rank_partners(near, np.array([0, 1, 0])).first.tolist()
    [2, 2]
    """
    first, precision = [], []
    for start in range(0, len(labels), _ROWS_AT_A_TIME):
        cosines = embeddings[start : start + _ROWS_AT_A_TIME] @ embeddings.T  # [r n]
        for row, near in enumerate(cosines, start):
            same = labels == labels[row]
            others = np.sort(near[~same])
            same[row] = False
            partners = np.sort(near[same])[::-1]
            if len(partners):
                before = len(others) - others.searchsorted(partners, "left")  # others that are as near, or nearer
                places = before + np.arange(1, len(partners) + 1)
                first.append(int(places[0]))
                precision.append(float((np.arange(1, len(partners) + 1) / places).mean()))
    return Ranks(np.array(first, dtype=np.int64), np.array(precision))
