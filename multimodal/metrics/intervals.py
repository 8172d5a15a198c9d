"""95 % intervals of scores: by formula for shares, from resampled rows for the rest. Never imports torch."""

import math
from collections.abc import Callable

import numpy as np

Z = 1.959963984540054
"""Standard normal quantile of 97.5 %."""
RESAMPLES = 1000
_DRAWS_AT_A_TIME = 2_000_000  # 16 MB

Interval = tuple[float, float]


def wilson_interval(successes: float, n: int) -> Interval:
    """Wilson's score interval of a share; unlike value +- error it never leaves 0..1 nor has zero width.

    Wilson (1927), https://doi.org/10.1080/01621459.1927.10502953.

    >>> [round(end, 3) for end in wilson_interval(9, 10)]
    [0.596, 0.982]
    """
    share, weight = successes / n, Z * Z / n
    middle = (share + weight / 2) / (1 + weight)
    margin = Z / (1 + weight) * math.sqrt(share * (1 - share) / n + weight / (4 * n))
    return max(0.0, min(share, middle - margin)), min(1.0, max(share, middle + margin))  # 0 and 1 to the last digit


def difference_interval(before: tuple[float, Interval], after: tuple[float, Interval]) -> Interval:
    """Of ``after - before``, two scores with their own intervals: Newcombe's hybrid.

    Newcombe (1998), https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I, method 10, which
    takes the scores as independent: of the same records it is rather too wide.

    >>> before, after = (0.6, wilson_interval(48, 80)), (0.8, wilson_interval(56, 70))
    >>> [round(end, 4) for end in difference_interval(before, after)]
    [0.0524, 0.3339]
    """
    (old, (old_low, old_high)), (new, (new_low, new_high)) = before, after
    gain = new - old
    return gain - math.hypot(new - new_low, old_high - old), gain + math.hypot(new_high - new, old - old_low)


def share_interval(value: float, standard_error: float, n: int) -> Interval:
    """Normal on the logit scale, for scores in 0..1.

    A score without any spread to measure, such as a perfect one, gets the interval of a share of ``n`` rows.

    >>> [round(end, 3) for end in share_interval(0.9, 0.05, 100)]
    [0.752, 0.964]
    """
    if not 0.0 < value < 1.0 or standard_error == 0.0:
        return wilson_interval(value * n, n)
    odds = value / (1 - value)
    factor = math.exp(min(700.0, Z * standard_error / (value * (1 - value))))  # 700: exp overflows at 710
    return odds / factor / (1 + odds / factor), 1 - 1 / (1 + odds * factor)


def positive_interval(value: float, standard_error: float) -> Interval:
    """Normal on the log scale, for errors, which are not negative.

    >>> [round(end, 2) for end in positive_interval(2.0, 0.2)]
    [1.64, 2.43]
    """
    if value == 0.0:
        return 0.0, 0.0
    factor = math.exp(min(700.0, Z * standard_error / value))
    return value / factor, value * factor


def bootstrap_errors(
    counts: np.ndarray, statistics: Callable[[np.ndarray], np.ndarray], *, seed: int = 0
) -> np.ndarray:
    """Standard errors of statistics of a sample, from drawing its rows again, with replacement.

    The standard error goes with an interval on the logit or log scale: measured on simulated confusion matrices
    (3 to 30 classes, 60 to 2,000 rows) that covers the true macro F1 more often than the resamples'
    percentiles do (60 rows, accuracy .95: 92 against 90 %; 300 rows, 30 skewed classes: 87 against 72 %), and
    always holds the score itself.

    Args:
        counts: how often each kind of row occurs, int [k]; ones where every row is a kind of its own.
        statistics: counts [r, k] of r samples -> [r, s]; NaN where a sample does not define it.
        seed: of the draws.

    >>> bootstrap_errors(np.array([50, 50]), lambda counts: counts[:, :1] / 100.0).round(2)
    array([0.05])
    """
    n, rng = int(counts.sum()), np.random.default_rng(seed)
    at_a_time = max(1, _DRAWS_AT_A_TIME // max(1, n, len(counts)))
    parts = [min(at_a_time, RESAMPLES - start) for start in range(0, RESAMPLES, at_a_time)]
    values = np.concatenate([statistics(_resample(counts, n, size, rng)) for size in parts])
    defined = np.isfinite(values)
    number = np.maximum(defined.sum(axis=0), 1)
    values = np.where(defined, values, 0.0)
    mean = values.sum(axis=0) / number
    return np.sqrt((np.where(defined, values - mean, 0.0) ** 2).sum(axis=0) / number)


def _resample(counts: np.ndarray, n: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Counts of ``size`` samples of n rows each, [size, k]: multinomial draws, in the faster of two ways."""
    kinds = len(counts)
    if 10 * kinds < n:
        return rng.multinomial(n, counts / n, size=size)
    drawn = np.repeat(np.arange(kinds), counts)[rng.integers(n, size=(size, n))]
    drawn += kinds * np.arange(size)[:, None]
    return np.bincount(drawn.ravel(), minlength=size * kinds).reshape(size, kinds)
