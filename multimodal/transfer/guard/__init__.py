"""Whether transfer helps: paired gaps between arms, their intervals, and a verdict that may abstain."""

from multimodal.transfer.guard.gaps import FitScore, Gaps, paired_gaps, record_scores, strongest_baseline
from multimodal.transfer.guard.verdict import (
    Verdict,
    corrected_t_interval,
    judge,
    paired_bootstrap_interval,
    simplest_within_one_error,
)

__all__ = [
    "FitScore",
    "Gaps",
    "Verdict",
    "corrected_t_interval",
    "judge",
    "paired_bootstrap_interval",
    "paired_gaps",
    "record_scores",
    "simplest_within_one_error",
    "strongest_baseline",
]
