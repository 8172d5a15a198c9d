"""Predictions of probes for held-out records, and their scores. Never imports torch."""

from dataclasses import dataclass

import numpy as np

from multimodal.metrics.ranking import macro_auc
from multimodal.transfer.folds import each_fold
from multimodal.transfer.guard.gaps import Gaps, paired_gaps
from multimodal.transfer.maps.domain import fit_standardise
from multimodal.transfer.maps.pca import fit_span
from multimodal.transfer.probes.logistic import LinearClassifier, fit_softmax

L2 = 0.01
"""Penalty of every arm, on standardised features. Of .001, .01, .1 and 1 it is within .03 of the best for each arm of
photos and texts in 43 classes (docs/choosing.md), and one value takes a fifth of the time of choosing per fold."""

PENALTIES = tuple(10.0**power for power in range(-1, 6))
"""Of ridge regressions, on standardised features; the fold's own records choose."""

TOLERANCE = 1e-7
"""Of the search for the probe: with 240 records in 81 classes it takes a third of the time of 1e-12, with
the same predictions."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Predictions for every record in every repeat, by probes that did not see it."""

    scores: np.ndarray
    """Of each class, higher is likelier, [r n c]."""
    labels: np.ndarray
    """Class of each record, int [n]."""

    @property
    def right(self) -> np.ndarray:
        """1 where the prediction is right, else 0, [r n]."""
        return (self.scores.argmax(axis=2) == self.labels).astype(np.float64)


def fit_probe(features: np.ndarray, labels: np.ndarray, num_classes: int) -> LinearClassifier:
    """Logistic regression with the penalty ``L2`` on features that are standardised first: the probe of every arm.

    When not to use: where the penalty matters; ``fit_logistic`` chooses it.
    """
    scaling = fit_standardise(features)
    first = scaling.then(fit_span(scaling.transform(features)))
    inside = first.transform(features)
    return fit_softmax(inside, labels, l2=L2, num_classes=num_classes, tolerance=TOLERANCE).after(first)


def held_out_scores(features: np.ndarray, labels: np.ndarray, parts: np.ndarray, num_classes: int) -> HeldOut:
    """Log probabilities of a probe that is fitted in each fold, scaling included."""
    scores = np.empty((*parts.shape, num_classes))
    for fold in each_fold(parts):
        probe = fit_probe(features[fold.train], labels[fold.train], num_classes)
        scores[fold.repeat, fold.test] = probe.log_probabilities(features[fold.test])
    return HeldOut(scores, labels)


def majority_scores(labels: np.ndarray, parts: np.ndarray, num_classes: int) -> HeldOut:
    """Count of each class among the training records of each fold."""
    scores = np.empty((*parts.shape, num_classes))
    for fold in each_fold(parts):
        scores[fold.repeat, fold.test] = np.bincount(labels[fold.train], minlength=num_classes)
    return HeldOut(scores, labels)


def ridge_scores(features: np.ndarray, numbers: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """1 - squared error / variance of each record, [r n], by ridge regressions that did not see it; their mean is R2.

    Scaling and penalty are fitted inside the fold, the penalty by leaving out one training record at a time.

    Args:
        numbers: of each record, which differ, [n].
    """
    from sklearn.linear_model import RidgeCV

    scores = np.empty(parts.shape)
    for fold in each_fold(parts):
        scaling = fit_standardise(features[fold.train])
        with np.errstate(divide="ignore", invalid="ignore"):  # one training record leaves none to choose the penalty by
            ridge = RidgeCV(alphas=PENALTIES).fit(scaling.transform(features[fold.train]), numbers[fold.train])
        errors = ridge.predict(scaling.transform(features[fold.test])) - numbers[fold.test]
        scores[fold.repeat, fold.test] = 1 - errors**2 / numbers.var()
    return scores


def mean_scores(numbers: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """The same of the mean of the training records of each fold."""
    return ridge_scores(np.zeros((len(numbers), 1)), numbers, parts)


def balanced_row_weights(labels: np.ndarray) -> np.ndarray:
    """n / (c n_y) of each record, [n]: with them the mean over records is the mean over classes.

    >>> balanced_row_weights(np.array([0, 0, 0, 1])).round(3).tolist()
    [0.667, 0.667, 0.667, 2.0]
    """
    counts = np.bincount(labels)
    return np.asarray(len(labels) / ((counts > 0).sum() * counts[labels]))


def auc_gaps(ours: HeldOut, theirs: HeldOut, parts: np.ndarray) -> Gaps | None:
    """Gaps of the macro AUC (one class against the rest) of each fold; None where fewer than two folds define it.

    A class without a held-out record in a fold has no AUC there, and is left out of that fold for both arms.
    """
    per_fold = []
    for fold in each_fold(parts):
        truth = ours.labels[fold.test, None] == np.arange(ours.scores.shape[2])
        areas = [macro_auc(arm.scores[fold.repeat, fold.test], truth) for arm in (ours, theirs)]
        if areas[0] is not None and areas[1] is not None:
            per_fold.append(areas[0].value - areas[1].value)
    if len(per_fold) < 2:
        return None
    share = paired_gaps(ours.right, theirs.right, parts).test_share
    return Gaps(np.array(per_fold), np.full(parts.shape[1], float(np.mean(per_fold))), share, repeats=len(parts))
