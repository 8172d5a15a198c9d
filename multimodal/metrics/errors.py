"""Errors of numbers, with intervals that know of heavy tails. Never imports torch."""

import sys

import numpy as np

from multimodal.metrics.intervals import Interval, error_interval, resample

FEWEST = 5
"""Records that an interval takes: resamples of fewer are too much alike to show how an error varies."""

Estimate = tuple[float, Interval | None]


def error_intervals(errors: np.ndarray, truth: np.ndarray) -> dict[str, Estimate]:
    """Root mean squared error, mean absolute error and R2, each with its interval; no R2 where all targets are equal.

    There is no interval where fewer than ``FEWEST`` records, or errors that are all alike, show no spread.

    Args:
        errors, truth: in the data's unit, float [n].
    """
    (errors, exponent), (centred, unit) = _scaled(errors), _scaled(truth - truth.mean())  # centred: keeps its digits
    absolute, squares = np.abs(errors), errors**2
    powers = [centred, centred**2, centred**3, centred**4]
    terms = np.stack([absolute, squares, squares**2, *powers, squares * centred, squares * centred**2], axis=1)
    rows = np.ones(len(errors), np.int64)
    intervals: list[Interval | None] = [None, None, None]
    if len(errors) >= FEWEST:
        sample, resamples = _logarithms(rows[None], terms)[0], resample(rows, lambda draws: _logarithms(draws, terms))
        intervals = [error_interval(sample[index], resamples[:, index]) for index in range(3)]
    rmse, mae = np.ldexp([np.sqrt(squares.mean()), absolute.mean()], exponent)
    found = {"rmse": _times(rmse, intervals[0]), "mae": _times(mae, intervals[1])}
    variance = centred.var()
    unexplained = np.ldexp(squares.mean() / variance, 2 * (exponent - unit)) if variance > 0 else np.inf
    if np.isfinite(unexplained):
        value, interval = _times(unexplained, intervals[2])
        found["r2"] = 1 - value, None if interval is None else (1 - interval[1], 1 - interval[0])
    return found


def _scaled(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Values divided by a power of two, which changes no digit, and its exponent: the square of 1e200 is no float."""
    exponent = int(np.frexp(np.abs(values).max())[1])
    return np.ldexp(values, -exponent), exponent


def _times(value: float, factors: Interval | None) -> Estimate:
    """A value with the interval between two multiples of it."""
    if factors is None:
        return float(value), None
    low, high = factors
    with np.errstate(over="ignore"):
        return float(value), (float(value * low), min(float(value * high), sys.float_info.max))


def _logarithms(draws: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """Logarithms of rmse, mae and 1 - R2 of samples, each with its standard error by the delta method, [r 3 2].

    Args:
        draws: how often each sample has each record, [r n].
        terms: of each record, [n 9].
    """
    n = draws.shape[1]
    absolute, square, fourth, c, c2, c3, c4, square_c, square_c2 = (draws @ terms / n).T
    variance = c2 - c**2
    about_mean = c4 - 4 * c * c3 + 6 * c**2 * c2 - 3 * c**4  # mean fourth power of the distance from the mean
    together = square_c2 - 2 * c * square_c + c**2 * square
    with np.errstate(divide="ignore", invalid="ignore"):  # of a sample without errors, or of equal targets
        tails = fourth / square**2
        spread_r2 = tails + about_mean / variance**2 - 2 * together / (square * variance)
        spread = np.stack([(tails - 1) / 4, square / absolute**2 - 1, spread_r2], axis=1)
        logarithms = np.log(np.stack([np.sqrt(square), absolute, square / variance], axis=1))
        return np.stack([logarithms, np.sqrt(spread / n)], axis=2)
