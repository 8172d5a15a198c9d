"""Metrics of an order: area under the ROC curve, retrieval. Never imports torch."""

from typing import NamedTuple

import numpy as np


def macro_auc(scores: np.ndarray, truth: np.ndarray) -> tuple[float, float] | None:
    """Mean over classes of the area under the ROC curve of one against the rest, and its standard error.

    Ties count one half. A class without positives, or without negatives, is left out; None where all are. The
    standard error is the infinitesimal jackknife's, for one class that of DeLong et al. (1988),
    https://doi.org/10.2307/2531595. Ours differs: the share of positives is as random as the rows are, and a row's
    influence is summed over the classes, so that their correlation counts.

    Args:
        scores: higher for more likely positives, [n c].
        truth: bool [n c].

    >>> macro_auc(np.array([[0.1], [0.4], [0.4], [0.8]]), np.array([[False], [False], [True], [True]]))[0]
    0.875
    """
    n, areas, influence = len(truth), [], np.zeros(len(truth))
    for values, positive in zip(scores.T, truth.T, strict=True):
        if not 0 < positive.sum() < n:
            continue
        # for each row, the share of rows of the other kind that it is on the right side of
        wins = np.empty(n)
        wins[positive] = _share_below(values[positive], values[~positive])
        wins[~positive] = 1.0 - _share_below(values[~positive], values[positive])
        area = wins[positive].mean()
        areas.append(area)
        influence += (wins - area) / np.where(positive, positive.mean(), 1.0 - positive.mean())
    if not areas:
        return None
    return float(np.mean(areas)), float(np.sqrt((influence**2).sum())) / (n * len(areas))


def _share_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each value, the share of the others that are smaller; equal ones count one half."""
    others = np.sort(others)
    return (others.searchsorted(values, "left") + others.searchsorted(values, "right")) / (2 * len(others))


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


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows of ``vectors`` [n d] at length 1; a row of zeros, which has no direction, stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, lengths.dtype.type(1))
