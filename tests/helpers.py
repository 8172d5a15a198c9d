"""What several tests need. Imports no torch, so that torch-free tests can use it."""

from typing import Any, NamedTuple

import numpy as np


class Tolerance(NamedTuple):
    relative: float
    absolute: float


TOLERANCES = {
    "exact": Tolerance(0.0, 0.0),
    "float64": Tolerance(1e-10, 1e-12),  # the same formula in another order
    "float32": Tolerance(1e-5, 1e-6),
    "onnx": Tolerance(0.0, 1e-4),  # the parity gate of the export
}


def assert_close(actual: Any, expected: Any, tolerance: str = "float32") -> None:
    """Compares numbers, arrays or tensors, their shapes included; dicts, lists and tuples item by item."""
    if isinstance(expected, dict):
        assert list(actual) == list(expected)
        actual, expected = list(actual.values()), list(expected.values())
    if isinstance(expected, list | tuple) and any(not isinstance(item, int | float) for item in expected):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_close(one, other, tolerance)
        return
    actual, expected = _array(actual), _array(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    relative, absolute = TOLERANCES[tolerance]
    np.testing.assert_allclose(actual, expected, rtol=relative, atol=absolute)


def _array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) in ("torch.bfloat16", "torch.float16") else value
        return value.numpy()
    return np.asarray(value)
