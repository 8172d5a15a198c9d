"""Positive, negative, or too few labels to tell. Never imports torch."""

from dataclasses import dataclass
from typing import Literal

from multimodal.metrics.intervals import Interval
from multimodal.transfer.guard.gaps import Gaps
from multimodal.transfer.guard.intervals import corrected_t_interval, paired_bootstrap_interval


@dataclass(frozen=True)
class Verdict:
    """What the folds say of a gap."""

    kind: Literal["positive", "negative", "inconclusive"]
    gap: float
    interval: Interval
    """Nadeau and Bengio's, which decides."""
    bootstrap: Interval
    """Over records only, so too narrow."""
    folds: int
    records: int
    more_labels: float | None
    """If inconclusive: times as many labels as there are would about do; None where the gap is zero."""

    def __str__(self) -> str:
        """One line for people."""
        kind: str = self.kind
        if self.kind == "inconclusive" and self.more_labels is not None:
            kind = f"inconclusive (needs about {self.more_labels:.3g} times as many labels)"
        low, high = self.interval
        return (
            f"{kind}: gap {self.gap:+.3f}, 95 % interval {low:+.3f} to {high:+.3f} "
            f"({self.folds} folds, {self.records} records; optimistic bootstrap "
            f"{self.bootstrap[0]:+.3f} to {self.bootstrap[1]:+.3f})"
        )


def judge(gaps: Gaps, *, seed: int = 0) -> Verdict:
    """Negative if the corrected interval lies below zero, positive if above, else inconclusive.

    The width of an interval falls with the root of the number of labels, so that (half width / gap)^2 times as many
    would about tell. With 50 labels a gap of -.08 is mostly left open, and that is said instead of guessed.

    When not to use: as a proof of no difference; "inconclusive" says only that these labels cannot tell.
    """
    low, high = interval = corrected_t_interval(gaps)
    gap, more = float(gaps.per_fold.mean()), None
    kind: Literal["positive", "negative", "inconclusive"] = "inconclusive"
    if high < 0:
        kind = "negative"
    elif low > 0:
        kind = "positive"
    elif gap != 0.0:
        more = ((high - low) / 2 / abs(gap)) ** 2
    bootstrap = paired_bootstrap_interval(gaps, seed=seed)
    return Verdict(kind, gap, interval, bootstrap, len(gaps.per_fold), len(gaps.per_record), more)
