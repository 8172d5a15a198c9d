"""Comparison of a trained model with probes on validation records. Never imports torch."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from multimodal.transfer.guard.arms import PROBE, SINGLE, estimate
from multimodal.transfer.guard.gaps import Gaps
from multimodal.transfer.guard.verdict import paired_bootstrap_interval

MODEL = "model"


def compare_trained(
    right: Mapping[str, np.ndarray], *, groups: np.ndarray | None = None, seed: int = 0
) -> dict[str, Any]:
    """Accuracy of the model and of each probe, the model's gap to each, and what to ship, as JSON.

    One fitted model is compared with another, so that the interval comes from drawing the records again (from the rule
    of three where they never differ). All intervals together hold in 95 of 100 cases (Bonferroni: each at 1 - .05 / the
    number of probes). The records chose the model's epoch, which flatters it: "below" is more reliable than "above".

    When not to use: to say what a method is worth; one training each says little of that.

    Args:
        right: arm -> 1 where the prediction for a validation record is right, else 0, [m]: ``model``, ``probe``, and
            ``single:INPUT``. The probes were fitted to training records alone.
        groups: of the records, [m].

    >>> compare_trained({"model": np.zeros(40), "probe": np.ones(40)})["gaps"]["probe"]["verdict"]
    'below'
    """
    differences = {name: right[MODEL] - values for name, values in right.items() if name != MODEL}
    gaps = {name: _gap(values, groups, len(differences), seed) for name, values in differences.items()}
    accuracy = {name: float(values.mean()) for name, values in right.items()}
    return {
        "records": len(right[MODEL]),
        "accuracy": accuracy,
        "gaps": gaps,
        "simultaneous": len(gaps),
        "action": _action(gaps, accuracy),
    }


def _gap(differences: np.ndarray, groups: np.ndarray | None, comparisons: int, seed: int) -> dict[str, Any]:
    gap = float(differences.mean())
    one = Gaps(np.array([gap]), differences, 0.0, groups)
    low, high = paired_bootstrap_interval(one, level=1 - 0.05 / comparisons, seed=seed)
    margin = max((high - low) / 2, (3.0 + math.log(comparisons)) / len(differences))
    verdict = "below" if gap + margin < 0 else "above" if gap - margin > 0 else "cannot be told"
    return {**estimate(gap, (gap - margin, gap + margin)), "verdict": verdict}


def _action(gaps: Mapping[str, Mapping[str, Any]], accuracy: Mapping[str, float]) -> str:
    """Names the best of the probes, where the model is below one."""
    if all(gap["verdict"] != "below" for gap in gaps.values()):
        return ""
    best = max(gaps, key=lambda name: accuracy[name])
    if best != PROBE:
        one = best.removeprefix(SINGLE)
        return f"ship {one} alone: the trained model is below a probe on it; name it in tasks.*.inputs"
    return (
        "ship the probe: the trained model is below it; set transfer.strategy: linear_probe, fusion.name: concat "
        "and fusion.dim: null"
    )
