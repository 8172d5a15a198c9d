"""Balanced accuracy and F1, from the labels of records and the answers to them. Never imports torch."""

import numpy as np

from multimodal.metrics.intervals import Share, blend_variance, draw_together, effective_size, harmonic_size


def balanced_accuracy(targets: np.ndarray, right: np.ndarray) -> Share | None:
    """Mean over the classes that occur of the share of their records that are right; None without a record.

    Args:
        targets: class of each record, int [n].
        right: bool [n].

    >>> balanced_accuracy(np.array([0, 0, 1]), np.array([True, False, True])).value
    0.75
    """
    if not len(targets):
        return None
    _, places = np.unique(targets, return_inverse=True)
    counts = np.bincount(places).astype(np.float64)
    shares = np.bincount(places, right) / counts
    variances = blend_variance(shares * (1 - shares), counts, draw_together(shares, counts))
    return Share(float(shares.mean()), float(variances.sum()) / len(shares) ** 2, harmonic_size(counts))


def label_f1(rows: np.ndarray, labels: np.ndarray, hits: np.ndarray) -> Share | None:
    """Mean over labels of F1, from the pairs of a record and a label that is true of it, answered, or both.

    With one label for all pairs it is the micro F1. A label's F1 is taken as a share: D marks (two of a pair that is a
    hit, else one) tell as much as D / (2 - F1) records do, by the delta method (Takahashi et al., 2022,
    https://doi.org/10.1007/s10489-021-02635-5). What one record does to several labels is added.

    Args:
        rows: record of each pair, int [p].
        labels: label of each pair, int [p].
        hits: whether both, bool [p].

    >>> label_f1(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([True, False, True])).value.__round__(3)
    0.833
    """
    if not len(rows):
        return None
    _, rows = np.unique(rows, return_inverse=True)
    _, labels = np.unique(labels, return_inverse=True)
    marks = 1.0 + hits
    total = np.bincount(labels, marks)
    shares = 2 * np.bincount(labels, hits) / total
    counts = total / (2 - shares)
    smooth = draw_together(shares, counts)
    influence = (2 * hits - smooth[labels] * marks) / total[labels]
    shared = max(0.0, float((np.bincount(rows, influence) ** 2).sum() - (influence**2).sum()))
    variances = blend_variance(shares * (1 - shares), counts, smooth)
    weights = np.bincount(rows, marks / total[labels])
    variance = float(variances.sum() + shared) / len(shares) ** 2
    return Share(float(shares.mean()), variance, effective_size(weights)).blended()
