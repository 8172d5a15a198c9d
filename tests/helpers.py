"""What tests compare with: one table of tolerances, by name."""

from typing import Any

import numpy as np

TOLERANCES = {
    "float64": {"rtol": 1e-12, "atol": 1e-12},
    "float32": {"rtol": 1e-5, "atol": 1e-6},
    "onnx": {"rtol": 0.0, "atol": 1e-4},
}


def assert_close(actual: Any, expected: Any, tolerance: str = "float32") -> None:
    """Fails unless both have one shape and agree within the named tolerance; takes arrays, tensors and numbers."""
    np.testing.assert_allclose(_array(actual), _array(expected), **TOLERANCES[tolerance], strict=True)


def _array(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)
