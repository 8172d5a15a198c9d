"""Paired gaps between two arms that were cross-validated on the same folds. Never imports torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from multimodal.transfer.folds import each_fold

FitScore = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Rows to train on, rows held out -> a score of each held-out record, higher is better."""


@dataclass(frozen=True, eq=False)
class Gaps:
    """Scores of one arm minus those of another; below zero is negative transfer.

    Wang et al. (2019), https://arxiv.org/abs/1811.09751, define negative transfer by this difference of risks.
    """

    per_fold: np.ndarray
    """Mean gap of each fold's held-out records, [j]; one repeat after the other."""
    per_record: np.ndarray
    """Mean gap of each record over the repeats, [n]."""
    test_share: float
    """Held-out records for each training record, mean over the folds."""
    groups: np.ndarray | None = None
    """Group of each record, [n]."""
    repeats: int = 1
    """Of the folds, over the same records."""


def record_scores(fit_score: FitScore, parts: np.ndarray) -> np.ndarray:
    """Held-out score of every record in every repeat, [r n].

    Args:
        fit_score: trains on the first rows only (scaling, PCA and choices of settings too, or the score leaks).
        parts: from ``repeated_folds``, [r n].

    Raises:
        ValueError: if it does not give one finite score per held-out record.
    """
    scores = np.empty(parts.shape)
    for fold in each_fold(parts):
        found = np.asarray(fit_score(fold.train, fold.test), dtype=np.float64)
        if found.shape != fold.test.shape or not np.isfinite(found).all():
            raise ValueError(
                f"the arm gave scores of shape {list(found.shape)} for {len(fold.test)} held-out records; "
                "give one finite number per record, for example 1 where the prediction is right and 0 elsewhere"
            )
        scores[fold.repeat, fold.test] = found
    return scores


def paired_gaps(
    scores: np.ndarray,
    baseline: np.ndarray,
    parts: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> Gaps:
    """Gaps of one arm to another on the same folds.

    When not to use: with arms that were scored on other folds, or after a fold's held-out records chose a setting.

    Args:
        scores, baseline: from ``record_scores``, [r n].
        parts: the folds of both, [r n].
        weights: of each record, [n]; n / (c n_y) turns accuracy into balanced accuracy. None: equal weights.

    >>> parts = np.array([[0, 0, 1, 1]])
    >>> paired_gaps(np.array([[1, 1, 1, 0]]), np.array([[1, 0, 0, 0]]), parts).per_fold
    array([0.5, 0.5])

    Raises:
        ValueError: if the shapes differ.
    """
    if not scores.shape == baseline.shape == parts.shape:
        raise ValueError(
            f"scores are {list(scores.shape)}, the baseline's {list(baseline.shape)} and the folds "
            f"{list(parts.shape)}; give all as [r n], from the same folds"
        )
    factors = np.ones(parts.shape[1]) if weights is None else np.asarray(weights, dtype=np.float64)
    differences = (np.asarray(scores, dtype=np.float64) - baseline) * factors
    folds = list(each_fold(parts))
    per_fold = np.array([differences[fold.repeat, fold.test].mean() for fold in folds])
    share = float(np.mean([len(fold.test) / len(fold.train) for fold in folds]))
    return Gaps(per_fold, differences.mean(axis=0), share, groups, len(parts))


def strongest_baseline(baselines: Mapping[str, np.ndarray], parts: np.ndarray) -> np.ndarray:
    """Scores of the best of several baselines, [r n], chosen for each fold by the *other* folds of its repeat.

    Choosing by the very records that are compared would favour the baselines.

    Args:
        baselines: name -> from ``record_scores``, [r n].

    Raises:
        ValueError: if there is none.
    """
    if not baselines:
        raise ValueError("there is no baseline, so the transfer gap cannot be measured; give at least one")
    scores = np.stack(list(baselines.values()))  # [k r n]
    chosen = np.empty(parts.shape)
    for fold in each_fold(parts):
        best = int(scores[:, fold.repeat, fold.train].mean(axis=1).argmax())
        chosen[fold.repeat, fold.test] = scores[best, fold.repeat, fold.test]
    return chosen
