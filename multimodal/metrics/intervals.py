"""95 % intervals of scores: by formula for shares, from resampled rows for errors. Never imports torch."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Z = 1.959963984540054
"""Standard normal quantile of 97.5 %."""
RESAMPLES = 1000
_DRAWS_AT_A_TIME = 2_000_000  # 16 MB
_ROUNDING = 1e-7  # errors that are all alike have a relative spread of 1e-8

Interval = tuple[float, float]


def wilson_interval(successes: float, n: float) -> Interval:
    """Wilson's score interval of a share; unlike value +- error it never leaves 0..1 nor is it a point.

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


class Share(NamedTuple):
    """Score in 0..1, and how sure it is."""

    value: float
    variance: float
    records: float
    """Independent records behind it."""

    @property
    def interval(self) -> Interval:
        """Wilson's at the effective sample size: that of a plain share with this variance.

        Korn and Graubard (1998), Survey Methodology 24, 193-201. A score of 0 or 1 shows no variance, and counts as a
        plain share of its records.

        >>> [round(end, 3) for end in Share(0.9, 0.1 * 0.9 / 100, 10_000).interval]
        [0.826, 0.945]
        >>> Share(1.0, 0.0, 20).interval == wilson_interval(20, 20)
        True
        """
        size = self.records
        if 0.0 < self.value < 1.0:
            drawn = self._drawn.item()
            size = drawn * (1 - drawn) / self.variance
        return wilson_interval(self.value * size, size)

    def blended(self) -> "Share":
        """The same with ``blend_variance``, for a variance that so few records may not show."""
        spread = self.records * self.variance
        return self._replace(variance=blend_variance(spread, np.array([self.records]), self._drawn).item())

    @property
    def _drawn(self) -> np.ndarray:
        return draw_together(np.array([self.value]), np.array([self.records]))


PRIOR = 4.0
"""Records that every class is smoothed by: Wilson's interval is that of a share with z^2 = 3.84 records more."""


def draw_together(shares: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Shares of classes [c] with ``PRIOR`` records more in each, which have the share of all classes together.

    The share of a class with one record is 0 or 1, which says nothing of how far it may be off.

    Args:
        counts: records of each class, [c].
    """
    size = harmonic_size(counts)
    middle = (shares.mean() * size + Z * Z / 2) / (size + Z * Z)
    return np.asarray((shares * counts + PRIOR * middle) / (counts + PRIOR))


def blend_variance(spread: np.ndarray | float, counts: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Variances [c] of means of values in 0..1, of which few do not show their spread.

    ``PRIOR`` values are added with the largest variance that values of this mean can have, share * (1 - share):
    Bhatia and Davis (2000), https://doi.org/10.2307/2589180. One value has that variance alone, many have their own.

    Args:
        spread: variance of the values as they are, [c].
        counts: how many there are, [c].
        shares: their means, from ``draw_together``, [c].
    """
    return np.asarray((counts * spread + PRIOR * shares * (1 - shares)) / (counts + PRIOR - 1) / counts)


def harmonic_size(counts: np.ndarray) -> float:
    """Number of records of a plain share that is as sure as the mean of the shares of classes [c] of so many records.

    >>> harmonic_size(np.array([10, 10])), round(harmonic_size(np.array([1000, 2])), 1)
    (20.0, 8.0)
    """
    return float(len(counts) ** 2 / (1.0 / counts).sum())


def effective_size(weights: np.ndarray) -> float:
    """Number of equal records that are worth as much as records of these weights: Kish (1965), Survey Sampling.

    >>> effective_size(np.array([1.0, 1.0, 0.0])), effective_size(np.array([9.0, 1.0, 1.0])).__round__(1)
    (2.0, 1.5)
    """
    return float(weights.sum() ** 2 / (weights**2).sum())


def error_interval(sample: np.ndarray, resamples: np.ndarray) -> Interval | None:
    """Bootstrap-t of the square of an error, which is not negative, as multiples of the error; None without spread.

    Efron and Tibshirani (1993), section 12.5. A sample without outliers has too small a value *and* too small a
    standard error; of that neither a standard error nor percentiles know. Squares, as those of logarithms cover no more
    often and are now and then a thousand times as wide (benchmarks/coverage.md).

    Args:
        sample: logarithm of the error, and its standard error.
        resamples: the same of each resample, [r 2]; those without spread do not count.
    """
    logarithm, error = sample
    usable = np.isfinite(resamples).all(axis=1) & (resamples[:, 1] > max(_ROUNDING, 1e-6 * error))
    if not error > _ROUNDING or 2 * usable.sum() < len(resamples):
        return None
    squares = np.exp(2 * (resamples[usable, 0] - logarithm))  # relative to that of the sample
    below, above = np.quantile((squares - 1) / (squares * resamples[usable, 1]), (0.025, 0.975))
    return math.sqrt(max(0.0, 1 - error * max(above, 0.0))), math.sqrt(1 - error * min(below, 0.0))


def bootstrap_errors(
    counts: np.ndarray, statistics: Callable[[np.ndarray], np.ndarray], *, seed: int = 0
) -> np.ndarray:
    """Standard errors [s] of statistics of a sample, from ``resample``."""
    return np.asarray(resample(counts, statistics, seed=seed).std(axis=0))


def resample(counts: np.ndarray, statistics: Callable[[np.ndarray], np.ndarray], *, seed: int = 0) -> np.ndarray:
    """Statistics of ``RESAMPLES`` samples, [r s], whose rows are drawn from those of one sample, with replacement.

    Args:
        counts: how often each kind of row occurs, int [k]; ones where every row is a kind of its own.
        statistics: counts [r, k] of r samples -> [r, s].
        seed: of the draws.

    >>> resample(np.array([50, 50]), lambda counts: counts[:, :1] / 100.0).std().round(2)
    np.float64(0.05)
    """
    n, rng = int(counts.sum()), np.random.default_rng(seed)
    at_a_time = max(1, _DRAWS_AT_A_TIME // max(1, n, len(counts)))
    parts = [min(at_a_time, RESAMPLES - start) for start in range(0, RESAMPLES, at_a_time)]
    return np.concatenate([statistics(_resample(counts, n, size, rng)) for size in parts])


def _resample(counts: np.ndarray, n: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Counts of ``size`` samples of n rows each, [size, k]: multinomial draws, in the faster of two ways."""
    kinds = len(counts)
    if 10 * kinds < n:
        return rng.multinomial(n, counts / n, size=size)
    drawn = np.repeat(np.arange(kinds), counts)[rng.integers(n, size=(size, n))]
    drawn += kinds * np.arange(size)[:, None]
    return np.bincount(drawn.ravel(), minlength=size * kinds).reshape(size, kinds)
