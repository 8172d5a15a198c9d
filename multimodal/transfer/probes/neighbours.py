"""Classifiers by similarity: nearest mean, nearest neighbours, soft neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from multimodal.metrics.ranking import unit_rows
from multimodal.transfer.checks import check_features, check_labels, check_row_weights
from multimodal.transfer.probes.logistic import LinearClassifier, log_softmax

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
    https://arxiv.org/abs/1703.05175). Adding a class leaves the others unchanged.

    When not to use: with more than some 20 records per class, or where classes differ in more than their mean.

    Args:
        features, labels: [n d], and class of each record, int [n].
        row_weights: of each record in the mean of its class, [n]; None: equal weights.

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


TEMPERATURES = (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)
PRIOR_VOTE = 0.01
"""Weight of the class shares beside the nearest record, so that no class is impossible."""
MOST_ROWS = 2000
"""Records whose held-out predictions choose the temperature."""
_CHUNK = 256  # records whose cosines are in memory at once


@dataclass(frozen=True, eq=False)
class SoftNeighbours:
    """Votes of weight exp(cosine / temperature), of features from which the training mean is taken away.

    Weighted nearest neighbours (Wu et al., 2018, https://arxiv.org/abs/1805.01978). Ours differs: all records vote,
    not the k nearest, so that ties between equally near records do not matter.

    When not to use: in a bundle that must stay small (it keeps every training feature).
    """

    vectors: np.ndarray
    """Of the training records, centred and of length one, [n d]."""
    centre: np.ndarray
    """The training mean, [d]."""
    votes: np.ndarray
    """Weight of each record for its class, [n c]."""
    prior: np.ndarray
    """Shares of the classes, [c]."""
    temperature: float
    scores: dict[float, float]
    """Temperature -> mean held-out log likelihood; empty where only one was given."""

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Of features [m d], [m c]: logarithms of the votes, that of the nearest record being 1."""
        cosines = unit_rows(check_features(features) - self.centre) @ self.vectors.T
        return _log_votes(cosines, self.votes, self.prior, self.temperature)


def fit_soft_neighbours(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    temperatures: float | Sequence[float] = TEMPERATURES,
    num_classes: int | None = None,
    groups: np.ndarray | None = None,
    row_weights: np.ndarray | None = None,
    seed: int = 0,
) -> SoftNeighbours:
    """Keeps the records, and the temperature with the best leave-group-out likelihood.

    No record votes for one of its own group.

    Args:
        features, labels: [n d], and class of each record, int [n].
        temperatures: one, or those to choose from; of equally good ones the higher wins.
        groups: of the records, [n]; None takes each record by itself.
        row_weights: of each record's vote and held-out prediction, [n]; None: equal weights.

    Raises:
        ValueError: if a temperature is not above 0, or there is only one group to choose it with.
    """
    features = check_features(features)
    labels, count = check_labels(labels, len(features), num_classes)
    weights = check_row_weights(row_weights, len(features))
    members = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    grid = sorted([temperatures] if isinstance(temperatures, int | float) else temperatures, reverse=True)
    if not min(grid) > 0:
        raise ValueError(f"a temperature is {min(grid)}; give numbers above 0, such as {TEMPERATURES}")
    if len(grid) > 1 and members.max() == 0:
        raise ValueError("there is one group of records, and none to choose a temperature with; give one temperature")
    centre = weights @ features / len(features)
    vectors = unit_rows(features - centre)
    votes = np.eye(count)[labels] * weights[:, None]
    prior = (votes.sum(axis=0) + 1 / count) / (len(labels) + 1)  # one more record, spread over the classes
    scores: dict[float, float] = {}
    if len(grid) > 1:
        rows = np.sort(np.random.default_rng(seed).permutation(len(labels))[:MOST_ROWS])
        totals = np.zeros(len(grid))
        for part in np.split(rows, range(_CHUNK, len(rows), _CHUNK)):
            cosines = np.where(members[part, None] == members[None], -np.inf, vectors[part] @ vectors.T)
            logs = [log_softmax(_log_votes(cosines, votes, prior, value)) for value in grid]
            totals += np.array([values[np.arange(len(part)), labels[part]] for values in logs]) @ weights[part]
        scores = dict(zip(grid, (totals / weights[rows].sum()).tolist(), strict=True))
    chosen = max(grid, key=lambda value: scores.get(value, 0.0))
    return SoftNeighbours(vectors, centre, votes, prior, float(chosen), scores)


def _log_votes(cosines: np.ndarray, votes: np.ndarray, prior: np.ndarray, temperature: float) -> np.ndarray:
    nearness = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / temperature)  # [m n], the nearest at 1
    return np.log(nearness @ votes + PRIOR_VOTE * prior)
