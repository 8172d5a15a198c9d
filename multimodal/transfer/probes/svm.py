"""A linear support vector machine whose probabilities are calibrated on held-out folds. Never imports torch."""

import numpy as np

from multimodal.transfer.checks import check_features, check_labels, check_row_weights
from multimodal.transfer.folds import each_fold, most_folds, repeated_folds
from multimodal.transfer.maps.domain import fit_standardise
from multimodal.transfer.probes.logistic import LinearClassifier, log_softmax


def fit_svm(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    cost: float = 0.1,
    num_classes: int | None = None,
    groups: np.ndarray | None = None,
    row_weights: np.ndarray | None = None,
    folds: int = 5,
    seed: int = 0,
) -> LinearClassifier:
    """One class against the rest with squared hinge loss on standardised features, margins turned into logits.

    The machines are those of liblinear (Fan et al., 2008, https://jmlr.org/papers/v9/fan08a.html); the margins of
    held-out folds are scaled as in Guo et al. (2017, https://arxiv.org/abs/1706.04599): one factor, one offset
    per class. All of it folds into (W, b).

    When not to use: where probabilities matter more than accuracy; ``fit_logistic`` fits them directly.

    Args:
        features, labels: [n d], and class of each record, int [n].
        cost: of a record on the wrong side of its margin (C).
        groups: of the records, [n].
        row_weights: factor on each record's cost, [n]: k copies of a record at 1/k count as the record once.

    Raises:
        ValueError: if no class has two groups, so that nothing can be held out.
    """
    features = check_features(features)
    labels, count = check_labels(labels, len(features), num_classes)
    weights = check_row_weights(row_weights, len(features)) * (1.0 if row_weights is None else np.mean(row_weights))
    folds = min(folds, most_folds(labels, groups))
    if folds < 2:
        raise ValueError("no class has two groups of records to calibrate with; use fit_nearest_mean or add labels")
    margins = np.empty((len(features), count))
    for fold in each_fold(repeated_folds(labels, folds=folds, groups=groups, seed=seed)):
        machine = _fit(features[fold.train], labels[fold.train], weights[fold.train], count, cost, seed)
        margins[fold.test] = machine.logits(features[fold.test])
    factor, offset = scale_margins(margins, labels, weights)
    machine = _fit(features, labels, weights, count, cost, seed)
    return LinearClassifier(factor * machine.weights, factor * machine.bias + offset)


def scale_margins(
    margins: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """The factor and the offsets [c] that make held-out margins [n c] the most likely logits.

    Offsets are drawn to zero as strongly as one record could, for classes that are hardly there.

    Args:
        weights: of the records, [n]; None is 1 for each.
    """
    from scipy.optimize import minimize

    n, count = margins.shape
    targets = np.eye(count)[labels]
    counts = np.ones(n) if weights is None else weights

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        factor, offset = np.exp(flat[0]), flat[1:]
        logs = log_softmax(factor * margins + offset)
        slopes = (np.exp(logs) - targets) * counts[:, None]
        loss = -(counts * logs[np.arange(n), labels]).sum() + (flat**2).sum() / 2
        return loss / n, np.append(factor * (slopes * margins).sum() + flat[0], slopes.sum(axis=0) + offset) / n

    found = minimize(objective, np.zeros(1 + count), jac=True, method="L-BFGS-B").x
    return float(np.exp(found[0])), found[1:]


def _fit(
    features: np.ndarray, labels: np.ndarray, row_weights: np.ndarray, count: int, cost: float, seed: int
) -> LinearClassifier:
    """Margins of every class; -1 everywhere for a class without records."""
    from sklearn.svm import LinearSVC

    scaling = fit_standardise(features, weights=row_weights)
    weights, bias = np.zeros((count, features.shape[1])), np.full(count, -1.0)
    present = np.unique(labels)
    if len(present) == 1:
        bias[present] = 1.0
    else:
        machine = LinearSVC(C=cost, dual="auto", max_iter=100_000, random_state=seed)
        machine.fit(scaling.transform(features), labels, row_weights)
        two = len(present) == 2  # liblinear then keeps one row, for the second class
        weights[present] = np.concatenate([-machine.coef_, machine.coef_]) / 2 if two else machine.coef_
        bias[present] = np.concatenate([-machine.intercept_, machine.intercept_]) / 2 if two else machine.intercept_
    return LinearClassifier(weights, bias).after(scaling)
