"""Arms of a transfer check, cross-validated on the same folds. Never imports torch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from multimodal.metrics.intervals import Interval
from multimodal.transfer.folds import most_repeated_folds
from multimodal.transfer.guard.gaps import paired_gaps, strongest_baseline
from multimodal.transfer.guard.held_out import (
    L2,
    HeldOut,
    auc_gaps,
    balanced_row_weights,
    held_out_scores,
    majority_scores,
    mean_scores,
    ridge_scores,
)
from multimodal.transfer.guard.verdict import Verdict, corrected_t_interval, judge

FOLDS, REPEATS = 5, 3
MEAN = "mean"
MAJORITY, RAW, RANDOM, PROBE, SINGLE = "majority", "raw", "random", "probe", "single:"
BASELINES = (RAW, RANDOM)
"""Arms of which the probe is compared with the strongest."""


def compare_arms(
    arms: Mapping[str, np.ndarray],
    labels: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    repeats: int = REPEATS,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracy of every arm, the verdict on ``probe`` against the strongest baseline, and what to do, as JSON.

    Each arm is a logistic probe on its features, scaled inside the fold.

    When not to use: with features that were fitted to these labels.

    Args:
        arms: name -> features [n d]; ``probe``, one of ``raw`` and ``random``, and ``single:INPUT`` for several.
        labels: class of each record, int [n].
        groups: [n]; no fold splits a group.
        repeats: of the folds, drawn anew each time.

    Raises:
        ValueError: if no class has two records (of two groups), or there is no baseline.
    """
    parts = most_repeated_folds(labels, folds=FOLDS, repeats=repeats, groups=groups, seed=seed)
    count = int(labels.max()) + 1
    found = {MAJORITY: majority_scores(labels, parts, count)}
    found |= {name: held_out_scores(features, labels, parts, count) for name, features in arms.items()}
    scores = {name: held_out.right for name, held_out in found.items()}
    baselines = {name: scores[name] for name in BASELINES if name in scores}
    compared = _compared(scores, baselines, parts, groups, seed)
    weights = balanced_row_weights(labels)
    balanced = paired_gaps(scores[PROBE], strongest_baseline(baselines, parts), parts, weights=weights)
    return {
        **compared,
        "metric": "accuracy",
        "balanced_accuracy_gap": estimate(float(balanced.per_fold.mean()), corrected_t_interval(balanced)),
        "auc_gap": _auc_gap(found[PROBE], found[compared["against"]], parts),
        "l2": L2,
    }


def compare_numbers(
    arms: Mapping[str, np.ndarray],
    numbers: np.ndarray,
    strata: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    repeats: int = REPEATS,
    seed: int = 0,
) -> dict[str, Any]:
    """R2 of every arm, a ridge regression on its features, and the rest as ``compare_arms`` gives it.

    Args:
        arms, groups, repeats: as ``compare_arms`` takes them.
        numbers: of each record, which differ, [n].
        strata: which folds share out evenly, such as fifths of the numbers, int [n].

    Raises:
        ValueError: if no stratum has two records (of two groups).
    """
    parts = most_repeated_folds(strata, folds=FOLDS, repeats=repeats, groups=groups, seed=seed)
    scores = {MEAN: mean_scores(numbers, parts)}
    scores |= {name: ridge_scores(features, numbers, parts) for name, features in arms.items()}
    baselines = {name: scores[name] for name in (MEAN, *BASELINES) if name in scores}
    return {**_compared(scores, baselines, parts, groups, seed), "metric": "r2"}


def _compared(
    scores: Mapping[str, np.ndarray],
    baselines: Mapping[str, np.ndarray],
    parts: np.ndarray,
    groups: np.ndarray | None,
    seed: int,
) -> dict[str, Any]:
    """What both kinds of task say of the scores of their arms, [r n]."""
    strongest = strongest_baseline(baselines, parts)
    verdict = judge(paired_gaps(scores[PROBE], strongest, parts, groups=groups), seed=seed)
    best = max(baselines, key=lambda name: float(scores[name].mean()))
    inputs = _against_singles(scores, parts, groups, seed)
    least = -np.inf if MEAN in scores else 0.0  # accuracy is a share
    return {
        **verdict_json(verdict),
        "against": best,
        "arms": {name: _estimate(values, parts, least) for name, values in scores.items()},
        "action": _action(verdict, best, scores, inputs),
        "inputs": inputs,
        "folds": int(parts.max()) + 1,
        "repeats": len(parts),
        "seed": seed,
        "records": parts.shape[1],
        "groups": None if groups is None else len(np.unique(groups)),
    }


def probe_scores(features: np.ndarray, labels: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """1 where a probe that did not see the record is right, else 0, [r n]."""
    return held_out_scores(features, labels, parts, int(labels.max()) + 1).right


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """Verdict as JSON."""
    return {
        "verdict": verdict.kind,
        "gap": estimate(verdict.gap, verdict.interval),
        "optimistic": {"low": verdict.bootstrap[0], "high": verdict.bootstrap[1]},
        "more_labels": verdict.more_labels,
        "summary": str(verdict),
    }


def estimate(value: float, interval: Interval) -> dict[str, float]:
    """Value with its interval, as JSON."""
    return {"value": value, "low": interval[0], "high": interval[1]}


def _auc_gap(ours: HeldOut, theirs: HeldOut, parts: np.ndarray) -> dict[str, float] | None:
    gaps = auc_gaps(ours, theirs, parts)
    return None if gaps is None else estimate(float(gaps.per_fold.mean()), corrected_t_interval(gaps))


def _estimate(scores: np.ndarray, parts: np.ndarray, least: float) -> dict[str, float]:
    gaps = paired_gaps(scores, np.zeros_like(scores), parts)
    low, high = corrected_t_interval(gaps)
    return estimate(float(gaps.per_fold.mean()), (max(least, low), min(1.0, high)))


def _against_singles(
    scores: Mapping[str, np.ndarray], parts: np.ndarray, groups: np.ndarray | None, seed: int
) -> dict[str, Any] | None:
    """The probe on all inputs against the best on a single one; None if there is one input."""
    singles = {name: values for name, values in scores.items() if name.startswith(SINGLE)}
    if not singles:
        return None
    gaps = paired_gaps(scores[PROBE], strongest_baseline(singles, parts), parts, groups=groups)
    verdict = judge(gaps, seed=seed)
    best = max(singles, key=lambda name: float(singles[name].mean())).removeprefix(SINGLE)
    words = {"positive": "gain over", "negative": "lose against", "inconclusive": "cannot be told from"}
    return {**verdict_json(verdict), "against": best, "note": f"inputs together {words[verdict.kind]} {best} alone"}


def _action(verdict: Verdict, against: str, scores: Mapping[str, np.ndarray], inputs: Mapping[str, Any] | None) -> str:
    names = {
        MEAN: "the mean of the targets",
        MAJORITY: "the most frequent class",
        RAW: "raw features",
        RANDOM: "random weights",
    }
    if verdict.kind == "positive":
        both = "freezing and fine-tuning these encoders both work; compare them on validation records"
        if inputs is not None and inputs["verdict"] == "negative":
            return f"{both}; {inputs['against']} alone is better than all inputs together"
        return both
    if verdict.kind == "negative":
        best = max((name for name in scores if name != PROBE), key=lambda name: float(scores[name].mean()))
        better = names.get(best, f"{best.removeprefix(SINGLE)} alone")
        return f"do not freeze these encoders: fine-tune them, or take the better arm, {better}"
    if verdict.more_labels is None:
        return f"these labels cannot tell the encoders from {names[against]}: the gap is within chance"
    return f"these labels cannot tell: {_times(verdict.more_labels)} times as many would"


def _times(more: float) -> str:
    return "more than 100" if more > 100 else f"about {more:.2g}"


def sample_rows(labels: Sequence[int] | np.ndarray, most: int, *, seed: int = 0) -> np.ndarray:
    """Rows of a sample that keeps the shares of the classes, in order; all rows where there are no more than ``most``.

    >>> sample_rows([0] * 6 + [1] * 3, 3).tolist() == sorted(sample_rows([0] * 6 + [1] * 3, 3).tolist())
    True
    """
    labels = np.asarray(labels)
    if len(labels) <= most:
        return np.arange(len(labels))
    order = np.lexsort((np.random.default_rng(seed).random(len(labels)), labels))  # by class, within one at random
    return np.sort(order[(np.arange(most) * len(labels)) // most])
