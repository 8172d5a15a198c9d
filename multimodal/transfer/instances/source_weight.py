"""Weight of a source record relative to a target record, chosen by target labels. Never imports torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from multimodal.transfer.checks import check_features, check_labels, check_pair, check_row_weights
from multimodal.transfer.folds import most_folds, repeated_folds
from multimodal.transfer.guard.gaps import record_scores
from multimodal.transfer.probes.logistic import LinearClassifier, fit_softmax

GRID = (0.0, 0.003, 0.03, 0.3, 1.0)
FOLDS, L2 = 5, 1e-2


@dataclass(frozen=True, eq=False)
class SourceWeight:
    """The chosen weight, and the classifier that was trained with it."""

    weight: float
    scores: dict[float, float]
    """Weight -> held-out accuracy on target records."""
    classifier: LinearClassifier


def choose_source_weight(
    source: tuple[np.ndarray, np.ndarray],
    target: tuple[np.ndarray, np.ndarray],
    *,
    grid: Sequence[float] = GRID,
    num_classes: int | None = None,
    source_weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> SourceWeight:
    """Minimises target losses + weight x source losses, with the weight of the best held-out target accuracy.

    Zero is always tried, so that a harmful source is left out but for the noise of cross-validation; of equally good
    weights the smaller wins. Wu and Dietterich (2004, https://doi.org/10.1145/1015330.1015436).

    When not to use: with fewer than some three target labels per class, which cannot choose anything.

    Args:
        source, target: features [n d] and labels [n], features [m d] and labels [m].
        grid: weights to try; 0 is added.
        source_weights: of the source records among themselves, [n]; scaled to mean 1.
        groups: of the target records, [m].

    Raises:
        ValueError: if no class has two groups of target records, or a weight is negative.
    """
    xs, xt = check_pair(source[0], target[0])
    both, count = check_labels(np.concatenate([source[1], target[1]]), len(xs) + len(xt), num_classes)
    ys, yt = both[: len(xs)], both[len(xs) :]
    values = sorted({0.0, *grid})
    folds = min(FOLDS, most_folds(yt, groups))
    if values[0] < 0 or folds < 2:
        raise ValueError(
            f"weights are {values}, and target classes have at most {most_folds(yt, groups)} groups of records; give "
            "weights of 0 or more, and two target labels of a class or more"
        )
    parts = repeated_folds(yt, folds=folds, repeats=3, groups=groups, seed=seed)

    def fit(weight: float, rows: np.ndarray) -> LinearClassifier:
        target_rows = (xt[rows], yt[rows])
        return fit_with_source((xs, ys), target_rows, weight=weight, num_classes=count, source_weights=source_weights)

    def accuracy(weight: float) -> float:
        def right(train: np.ndarray, test: np.ndarray) -> np.ndarray:
            return fit(weight, train).predict(xt[test]) == yt[test]

        return float(record_scores(right, parts).mean())

    scores = {weight: accuracy(weight) for weight in values}
    chosen = max(values, key=lambda weight: scores[weight])  # the first of the best: the smallest
    return SourceWeight(chosen, scores, fit(chosen, np.arange(len(xt))))


def fit_with_source(
    source: tuple[np.ndarray, np.ndarray],
    target: tuple[np.ndarray, np.ndarray],
    *,
    weight: float,
    num_classes: int | None = None,
    source_weights: np.ndarray | None = None,
) -> LinearClassifier:
    """A softmax classifier of both domains, in which each source record counts ``weight`` times a target record.

    When not to use: with a weight that nobody chose by target labels.

    Args:
        source, target: features [n d] and labels [n], features [m d] and labels [m].
        source_weights: of the source records among themselves, [n]; scaled to mean 1.
    """
    xt, yt = check_features(target[0], "target features"), target[1]
    if weight == 0:
        return fit_softmax(xt, yt, l2=L2, num_classes=num_classes)
    return fit_softmax(
        np.concatenate([source[0], xt]),
        np.concatenate([source[1], yt]),
        l2=L2,
        num_classes=num_classes,
        row_weights=np.concatenate([weight * check_row_weights(source_weights, len(source[0])), np.ones(len(xt))]),
    )
