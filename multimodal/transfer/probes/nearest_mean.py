"""The class whose mean is nearest: as a linear classifier. Never imports torch."""

from typing import Literal

import numpy as np

from multimodal.transfer.checks import check_features, check_labels, check_row_weights
from multimodal.transfer.probes.linear import LinearClassifier

Metric = Literal["euclidean", "cosine"]


def fit_nearest_mean(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    num_classes: int | None = None,
    metric: Metric = "euclidean",
    row_weights: np.ndarray | None = None,
) -> LinearClassifier:
    """Logits whose largest is the class with the nearest mean: x m - |m|^2/2, or the cosine up to the length of x.

    Nearest class mean (Mensink et al., 2013, https://doi.org/10.1109/TPAMI.2013.83); few-shot: Snell et al. (2017,
    https://arxiv.org/abs/1703.05175). A class more changes nothing of the others.

    When not to use: with more than some 20 records a class, or where classes differ in more than their mean.

    Args:
        features: [n d].
        labels: class of each record, int [n].
        row_weights: of each record in the mean of its class, [n]; None weighs all alike.

    >>> fit_nearest_mean(np.array([[0.0], [2.0]]), np.array([0, 1])).predict(np.array([[0.9], [1.1]]))
    array([0, 1])

    Raises:
        ValueError: if a class has no record, or the metric is unknown.
    """
    if metric not in ("euclidean", "cosine"):
        raise ValueError(f"metric is {metric!r}; give 'euclidean' or 'cosine'")
    features = check_features(features)
    labels, count = check_labels(labels, len(features), num_classes)
    weights = check_row_weights(row_weights, len(features))
    sizes = np.bincount(labels, weights, minlength=count)
    if (sizes == 0).any():
        raise ValueError(f"classes {np.flatnonzero(sizes == 0).tolist()} have no record, so no mean; leave them out")
    if metric == "cosine":
        features = unit_rows(features)
    means = (np.eye(count)[labels] * weights[:, None]).T @ features / sizes[:, None]
    if metric == "cosine":
        return LinearClassifier(unit_rows(means), np.zeros(count))
    return LinearClassifier(means, -(means**2).sum(axis=1) / 2)


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Rows of length one; a row of zeros stays."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths > 0, lengths, 1.0)
