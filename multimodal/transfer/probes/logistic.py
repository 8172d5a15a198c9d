"""Linear classifiers in closed form, and logistic regression."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from multimodal.runtime.threads import one_thread
from multimodal.transfer.checks import check_features, check_labels, check_row_weights
from multimodal.transfer.folds import each_fold, most_folds, repeated_folds
from multimodal.transfer.maps.affine import AffineMap
from multimodal.transfer.maps.domain import fit_standardise
from multimodal.transfer.maps.pca import fit_span


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """Linear layer, logits = x W' + b."""

    weights: np.ndarray
    """W, [c d]."""
    bias: np.ndarray
    """b, [c]."""

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Of features [n d], [n c]."""
        return np.asarray(features, dtype=np.float64) @ self.weights.T + self.bias

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Class of each record, int [n]."""
        return self.logits(features).argmax(axis=1)

    def log_probabilities(self, features: np.ndarray) -> np.ndarray:
        """Of each class, [n c]."""
        return log_softmax(self.logits(features))

    def after(self, first: AffineMap) -> "LinearClassifier":
        """The classifier that gives for x what this one gives for the mapped x.

        >>> halved = AffineMap(np.array([[0.5]]), np.array([1.0]))
        >>> LinearClassifier(np.array([[4.0]]), np.zeros(1)).after(halved).logits(np.array([[2.0]]))
        array([[8.]])
        """
        return LinearClassifier(*first.fold(self.weights, self.bias))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the probabilities, [n c]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


L2_GRID = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_ITERATIONS = 1000
_SMALL = 200_000_000  # multiplications of one step, from which on several threads gain anything
_ENOUGH_TO_CHOOSE = 1e-9  # held-out likelihoods then agree to some .01, in a third of the time


@dataclass(frozen=True, eq=False)
class LogisticProbe:
    """A fitted probe, and the scores of its penalties."""

    classifier: LinearClassifier
    """Over the features as they are: the standardisation is folded into it."""
    l2: float
    scores: dict[float, float]
    """Penalty -> mean held-out log likelihood; empty where only one was given."""


def fit_softmax(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    l2: float,
    num_classes: int | None = None,
    row_weights: np.ndarray | None = None,
    anchor: np.ndarray | None = None,
    start: LinearClassifier | None = None,
    tolerance: float = 1e-12,
) -> LinearClassifier:
    """Minimises mean cross-entropy + l2/2 |W - anchor|^2, with a free bias, by L-BFGS (Liu and Nocedal, 1989).

    scikit-learn's C is 1 / (n l2). With an anchor this is L2-SP on the head (Li et al., 2018,
    https://arxiv.org/abs/1802.01483).

    When not to use: with features of very different scales; ``fit_logistic`` standardises them.

    Args:
        features, labels: [n d], and class of each record, int [n].
        row_weights: of each record's loss, [n]; scaled to mean 1.
        anchor: weights [c d] that l2 draws to; None: zero.
        start: of the search; the optimum does not depend on it.
        tolerance: relative decrease of the loss in a step, below which the search ends.
    """
    from scipy.optimize import minimize

    features = check_features(features)
    n, d = features.shape
    labels, count = check_labels(labels, n, num_classes)
    if not l2 > 0:
        raise ValueError(f"l2 is {l2}; give a number above 0: classes that can be separated have no optimum without")
    shares = check_row_weights(row_weights, n) / n
    centre = np.zeros((count, d)) if anchor is None else np.asarray(anchor, dtype=np.float64)
    targets = np.eye(count)[labels]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = flat[: count * d].reshape(count, d), flat[count * d :]
        logs = log_softmax(features @ weights.T + bias)
        slopes = (np.exp(logs) - targets) * shares[:, None]  # [n c]
        loss = -float(shares @ logs[np.arange(n), labels]) + l2 / 2 * float(((weights - centre) ** 2).sum())
        return loss, np.concatenate([(slopes.T @ features + l2 * (weights - centre)).ravel(), slopes.sum(axis=0)])

    first = LinearClassifier(centre, np.zeros(count)) if start is None else start
    options = {"maxiter": _ITERATIONS, "gtol": 1e-6, "ftol": tolerance}
    initial = np.concatenate([first.weights.ravel(), first.bias])
    with one_thread() if features.size * count < _SMALL else nullcontext():
        found = minimize(objective, initial, jac=True, method="L-BFGS-B", options=options).x
    return LinearClassifier(found[: count * d].reshape(count, d), found[count * d :])


def fit_logistic(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    l2: float | Sequence[float] = L2_GRID,
    num_classes: int | None = None,
    groups: np.ndarray | None = None,
    row_weights: np.ndarray | None = None,
    folds: int = 5,
    seed: int = 0,
) -> LogisticProbe:
    """Linear probe: standardises, chooses the penalty by held-out likelihood, and folds the scaling in.

    Protocol of Kornblith et al. (2019, https://arxiv.org/abs/1805.08974). Of penalties that are equally good the
    stronger wins. No more folds are made than the largest class has groups.

    When not to use: with distant source weights, where fine-tuning beats any head on frozen features.

    Args:
        features, labels: [n d], and class of each record, int [n].
        l2: one penalty, or those to choose from.
        groups: of the records, [n].

    Raises:
        ValueError: if there are penalties to choose from and no class has two groups.
    """
    features = check_features(features)
    labels, count = check_labels(labels, len(features), num_classes)
    weights = check_row_weights(row_weights, len(features))
    grid = sorted([l2] if isinstance(l2, int | float) else l2, reverse=True)
    scores: dict[float, float] = {}
    if len(grid) > 1:
        folds = min(folds, most_folds(labels, groups))
        if folds < 2:
            raise ValueError("no class has two groups of records to choose l2 with; give one l2, for example l2=0.01")
        totals = np.zeros(len(grid))
        for fold in each_fold(repeated_folds(labels, folds=folds, groups=groups, seed=seed)):
            totals += _path(features, labels, weights, grid, count, fold.train, fold.test)
        scores = dict(zip(grid, (totals / weights.sum()).tolist(), strict=True))
    chosen = max(grid, key=lambda value: scores.get(value, 0.0))  # the first of the best: the strongest
    scaling = fit_standardise(features, weights=weights)
    classifier = fit_softmax(
        scaling.transform(features), labels, l2=chosen, num_classes=count, row_weights=weights
    ).after(scaling)
    return LogisticProbe(classifier, float(chosen), scores)


def _path(
    features: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    grid: Sequence[float],
    count: int,
    train: np.ndarray,
    test: np.ndarray,
) -> np.ndarray:
    """Weighted sum of held-out log likelihoods for each penalty of a falling grid, each fit starting from the last."""
    scaling = fit_standardise(features[train], weights=weights[train])
    inside, outside = scaling.transform(features[train]), scaling.transform(features[test])
    span = fit_span(inside)
    inside, outside = span.transform(inside), span.transform(outside)
    given: dict[str, Any] = {"num_classes": count, "row_weights": weights[train], "tolerance": _ENOUGH_TO_CHOOSE}
    sums, last = [], None
    for value in grid:
        last = fit_softmax(inside, labels[train], l2=value, start=last, **given)
        sums.append(weights[test] @ last.log_probabilities(outside)[np.arange(len(test)), labels[test]])
    return np.array(sums)
