"""The most frequent class among the nearest records. Never imports torch."""

from dataclasses import dataclass

import numpy as np

from multimodal.transfer.checks import check_features, check_labels
from multimodal.transfer.probes.nearest_mean import Metric, unit_rows


@dataclass(frozen=True, eq=False)
class NearestNeighbours:
    """Answers by the vote of the nearest training records (Cover and Hart, 1967).

    When not to use: in a bundle that must stay small (it keeps every training feature), or with few records a class,
    where a probe beats it.
    """

    features: np.ndarray
    """Of the training records, [n d]; of length one where the metric is the cosine."""
    labels: np.ndarray
    num_classes: int
    neighbours: int
    metric: Metric

    def nearest(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the nearest training records, nearest first, int [m k], and their distances [m k].

        The distance is the Euclidean one, or one less the cosine.
        """
        queries = check_features(features)
        if self.metric == "cosine":
            distances = 1.0 - unit_rows(queries) @ self.features.T
        else:
            squares = (queries**2).sum(axis=1)[:, None] + (self.features**2).sum(axis=1)
            distances = np.sqrt(np.maximum(squares - 2 * queries @ self.features.T, 0.0))
        rows = np.argsort(distances, axis=1, kind="stable")[:, : self.neighbours]
        return rows, np.take_along_axis(distances, rows, axis=1)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Share of the votes, [m c]."""
        votes = np.eye(self.num_classes)[self.labels[self.nearest(features)[0]]]  # [m k c]
        return votes.mean(axis=1)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Class of each record, int [m]; of equal votes, that of the nearest among them."""
        votes = self.labels[self.nearest(features)[0]]  # [m k]
        counts = np.eye(self.num_classes)[votes].sum(axis=1)  # [m c]
        leads = np.take_along_axis(counts, votes, axis=1)  # votes of each neighbour's class
        return np.take_along_axis(votes, leads.argmax(axis=1)[:, None], axis=1)[:, 0]


def fit_nearest_neighbours(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    neighbours: int = 5,
    num_classes: int | None = None,
    metric: Metric = "euclidean",
) -> NearestNeighbours:
    """Keeps the records.

    Args:
        features: [n d].
        labels: class of each record, int [n].

    Raises:
        ValueError: if there are fewer records than neighbours, or the metric is unknown.
    """
    features = check_features(features)
    labels, count = check_labels(labels, len(features), num_classes)
    if not 1 <= neighbours <= len(features):
        raise ValueError(f"neighbours is {neighbours}, with {len(features)} records; give 1 to {len(features)}")
    if metric not in ("euclidean", "cosine"):
        raise ValueError(f"metric is {metric!r}; give 'euclidean' or 'cosine'")
    return NearestNeighbours(unit_rows(features) if metric == "cosine" else features, labels, count, neighbours, metric)
