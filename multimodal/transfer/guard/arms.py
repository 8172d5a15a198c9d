"""The arms of a transfer check, cross-validated on the same folds, and what they say. Never imports torch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from multimodal.intervals import Interval
from multimodal.transfer.folds import most_folds, repeated_folds
from multimodal.transfer.guard.gaps import paired_gaps, record_scores, strongest_baseline
from multimodal.transfer.guard.intervals import corrected_t_interval
from multimodal.transfer.guard.verdict import Verdict, judge
from multimodal.transfer.probes.logistic import fit_logistic

FOLDS, REPEATS = 5, 3
L2 = 0.01
"""Of every arm, on standardised features. Of .001, .01, .1 and 1 it is within .03 of the best for each arm of photos
and texts in 43 classes (docs/transfer.md), and one value takes a fifth of the time of a choice inside each fold."""
MAJORITY, RAW, RANDOM, PROBE, SINGLE = "majority", "raw", "random", "probe", "single:"
BASELINES = (RAW, RANDOM)
"""What the probe is compared with: the strongest of these."""


def compare_arms(arms: Mapping[str, np.ndarray], labels: np.ndarray, *, seed: int = 0) -> dict[str, Any]:
    """Accuracy of every arm, the verdict on ``probe`` against the strongest baseline, and what to do, as JSON.

    Each arm is a logistic probe on its features, scaled inside the fold.

    When not to use: with features that were fitted to these labels.

    Args:
        arms: name -> features [n d]; ``probe``, one of ``raw`` and ``random``, and ``single:INPUT`` for several.
        labels: class of each record, int [n].
        seed: of the folds.

    Raises:
        ValueError: if no class has two records, or there is no baseline.
    """
    folds = max(2, min(FOLDS, most_folds(labels)))
    parts = repeated_folds(labels, folds=folds, repeats=REPEATS, seed=seed)
    scores = {MAJORITY: record_scores(lambda train, test: _majority(labels, train, test), parts)}
    for name, features in arms.items():
        scores[name] = probe_scores(features, labels, parts)
    baselines = {name: scores[name] for name in BASELINES if name in scores}
    verdict = judge(paired_gaps(scores[PROBE], strongest_baseline(baselines, parts), parts), seed=seed)
    best = max(baselines, key=lambda name: float(scores[name].mean()))
    return {
        **verdict_json(verdict),
        "against": best,
        "arms": {name: _estimate(values, parts) for name, values in scores.items()},
        "action": _action(verdict, best),
        "inputs": _against_singles(scores, parts, seed),
        "folds": folds,
        "repeats": REPEATS,
        "seed": seed,
        "records": len(labels),
    }


def probe_scores(features: np.ndarray, labels: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """1 where a probe that did not see the record is right, else 0, [r n]."""
    count = int(labels.max()) + 1

    def fit_score(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        probe = fit_logistic(features[train], labels[train], l2=L2, num_classes=count)
        return probe.classifier.predict(features[test]) == labels[test]

    return record_scores(fit_score, parts)


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """What was judged, as JSON."""
    return {
        "verdict": verdict.kind,
        "gap": estimate(verdict.gap, verdict.interval),
        "optimistic": {"low": verdict.bootstrap[0], "high": verdict.bootstrap[1]},
        "more_labels": verdict.more_labels,
        "summary": str(verdict),
    }


def estimate(value: float, interval: Interval) -> dict[str, float]:
    """A value with its interval, as JSON."""
    return {"value": value, "low": interval[0], "high": interval[1]}


def _majority(labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    return labels[test] == np.bincount(labels[train]).argmax()


def _estimate(scores: np.ndarray, parts: np.ndarray) -> dict[str, float]:
    gaps = paired_gaps(scores, np.zeros_like(scores), parts)
    low, high = corrected_t_interval(gaps)
    return estimate(float(gaps.per_fold.mean()), (max(0.0, low), min(1.0, high)))  # a share


def _against_singles(scores: Mapping[str, np.ndarray], parts: np.ndarray, seed: int) -> dict[str, Any] | None:
    """The probe on all inputs against that on the best one; None where there is one input."""
    singles = {name: values for name, values in scores.items() if name.startswith(SINGLE)}
    if not singles:
        return None
    verdict = judge(paired_gaps(scores[PROBE], strongest_baseline(singles, parts), parts), seed=seed)
    best = max(singles, key=lambda name: float(singles[name].mean())).removeprefix(SINGLE)
    words = {"positive": "gain over", "negative": "lose against", "inconclusive": "cannot be told from"}
    return {**verdict_json(verdict), "against": best, "note": f"inputs together {words[verdict.kind]} {best} alone"}


def _action(verdict: Verdict, best: str) -> str:
    """What to do, in one sentence."""
    names = {RAW: "raw features", RANDOM: "random weights"}
    if verdict.kind == "positive":
        return "freezing and fine-tuning these encoders are both sound; compare them on validation records"
    if verdict.kind == "negative":
        return f"do not freeze these encoders: fine-tune them, or take the better arm, {names[best]}"
    if verdict.more_labels is None:
        return f"these labels cannot tell the encoders from {names[best]}: the gap is zero"
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
