"""Intervals of paired gaps, the one-standard-error rule, and a verdict that may abstain."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from multimodal.metrics.intervals import Interval, bootstrap_errors
from multimodal.transfer.guard.gaps import Gaps


def corrected_t_interval(gaps: Gaps, *, level: float = 0.95) -> Interval:
    """Student's t with a variance that knows that training sets overlap: var * (1/j + n_test/n_train).

    Nadeau and Bengio (2003), https://doi.org/10.1023/A:1024068626366. Ours differs: repeats draw new folds of the same
    records, and so add no degree of freedom. With 15 - 1 for 5 folds x 3 repeats, 9 to 13 % of equal arms were told
    apart, of 10 groups of records; with 5 - 1 it is 2 to 5 % (benchmarks/coverage.md). Fold gaps without any spread say
    that the folds cannot tell, not that the gap is exact; the interval then is the rule of three's, +-3/n.

    When not to use: on a single split, which has no spread.

    Raises:
        ValueError: if there are fewer than two folds.
    """
    from scipy.stats import t

    number = len(gaps.per_fold)
    if number < 2:
        raise ValueError(f"there is {number} fold, which has no spread; give at least 2, 5 folds x 3 repeats are usual")
    middle, spread = float(gaps.per_fold.mean()), float(gaps.per_fold.std(ddof=1))
    if spread < 1e-12:
        margin = 3.0 / len(gaps.per_record)
    else:
        freedom = max(1, number // gaps.repeats - 1)
        margin = float(t.ppf((1 + level) / 2, freedom)) * spread * math.sqrt(1 / number + gaps.test_share)
    return middle - margin, middle + margin


def paired_bootstrap_interval(gaps: Gaps, *, level: float = 0.95, seed: int = 0) -> Interval:
    """Normal interval with the standard error of drawing records (whole groups) again, with replacement.

    Efron and Tibshirani (1993). It knows nothing of the variance that the training set adds, and so is too narrow:
    report it as the optimistic one.

    When not to use: for the verdict.
    """
    index = np.arange(len(gaps.per_record))
    if gaps.groups is not None:
        index = np.unique(np.asarray(gaps.groups), return_inverse=True)[1].reshape(-1)
    sums, sizes = np.bincount(index, gaps.per_record), np.bincount(index).astype(np.float64)
    error = bootstrap_errors(
        np.ones(len(sums), np.int64), lambda draws: ((draws @ sums) / (draws @ sizes))[:, None], seed=seed
    )
    middle, margin = float(gaps.per_record.mean()), NormalDist().inv_cdf((1 + level) / 2) * float(error[0])
    return middle - margin, middle + margin


def simplest_within_one_error(scores: Mapping[str, np.ndarray]) -> str:
    """Name of the first candidate whose mean is within one standard error of the best mean.

    The rule of Breiman et al., Classification and Regression Trees (1984), section 3.4.3, with the standard error of
    the best candidate over its folds.

    When not to use: where each point counts more than simplicity, or folds are so few that their error is a guess.

    Args:
        scores: name -> score of each fold, [j], higher is better; the simplest candidate first.

    >>> simplest_within_one_error({"probe": np.array([0.8, 0.9]), "finetune": np.array([0.81, 0.91])})
    'probe'

    Raises:
        ValueError: if there is no candidate, or one has fewer than two folds or other folds than the next.
    """
    lengths = {len(values) for values in scores.values()}
    if len(lengths) != 1 or min(lengths) < 2:
        raise ValueError(
            f"the {len(scores)} candidates have {sorted(lengths)} fold scores; give at least one candidate, and each "
            "the same two or more folds"
        )
    best = max(scores.values(), key=lambda values: float(np.mean(values)))
    least = float(np.mean(best)) - float(np.std(best, ddof=1)) / np.sqrt(len(best))
    return next(name for name, values in scores.items() if float(np.mean(values)) >= least)


@dataclass(frozen=True)
class Verdict:
    """Conclusion from the folds about a gap."""

    kind: Literal["positive", "negative", "inconclusive"]
    gap: float
    interval: Interval
    """Nadeau and Bengio's, which decides."""
    bootstrap: Interval
    """Over records only, so too narrow."""
    folds: int
    records: int
    more_labels: float | None
    """If inconclusive, but not by the bootstrap: times as many labels as there are would about do."""

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

    An interval shrinks with the root of the number of labels, so that (half width / gap)^2 times as many would
    about decide. That is said only of a gap whose optimistic interval is clear of zero: of any other it would be a
    multiple of chance.

    When not to use: as a proof of no difference; "inconclusive" says only that these labels cannot tell.
    """
    low, high = interval = corrected_t_interval(gaps)
    bootstrap = paired_bootstrap_interval(gaps, seed=seed)
    gap, more = float(gaps.per_fold.mean()), None
    kind: Literal["positive", "negative", "inconclusive"] = "inconclusive"
    if high < 0:
        kind = "negative"
    elif low > 0:
        kind = "positive"
    elif gap != 0.0 and not bootstrap[0] <= 0.0 <= bootstrap[1]:
        more = ((high - low) / 2 / abs(gap)) ** 2
    return Verdict(kind, gap, interval, bootstrap, len(gaps.per_fold), len(gaps.per_record), more)
