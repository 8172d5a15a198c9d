"""How far two computations of the same outputs may lie apart. Never imports torch."""

import math

import numpy as np

FP32_TOLERANCE = 1e-4
"""Largest absolute difference of raw outputs in float32, on the CPU."""
_RELATIVE = 1e-5  # beyond a magnitude of 10 float32 itself is coarser: it has seven digits, and sums lose some


def largest_difference(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute difference; infinite where shapes differ or a value is not finite.

    >>> largest_difference(np.array([1.0, 2.0]), np.array([1.0, 2.5]))
    0.5
    """
    if actual.shape != expected.shape or not (np.isfinite(actual).all() and np.isfinite(expected).all()):
        return math.inf
    return float(np.abs(actual.astype(np.float64) - expected).max(initial=0.0))


def fp32_limit(expected: np.ndarray) -> float:
    """Largest difference to ``expected`` that passes.

    >>> fp32_limit(np.array([3.0])), fp32_limit(np.array([-50.0]))
    (0.0001, 0.0005)
    """
    return max(FP32_TOLERANCE, _RELATIVE * float(np.abs(expected).max(initial=0.0)))


_OWN_ANSWERS = {"fp16": 0.01, "int8": 0.05}


def own_limit(precision: str, expected: np.ndarray) -> float:
    """Largest difference to what the same graph in a smaller precision answered where it was written.

    A share of the largest output, or of 1 where that is less: machines add up in other orders, and one rounding to
    8 bits that falls the other way moves an output by about one part in 256 of the range.

    >>> own_limit("fp16", np.array([3.0, -20.0])), own_limit("int8", np.array([0.5]))
    (0.2, 0.05)
    """
    return _OWN_ANSWERS[precision] * max(1.0, float(np.abs(expected).max(initial=0.0)))
