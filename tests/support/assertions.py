"""What tests share: one table of tolerances, by name, and checks around a block."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TOLERANCES = {  # relative, absolute
    "float64": (1e-12, 1e-12),
    "float32": (1e-5, 1e-6),
    "onnx": (0.0, 1e-4),
    "hidden states": (0.0, 1e-5),  # of the original library, float32, from raw values on
    "log mel": (0.0, 1e-3),  # two Fourier transforms in float32; natural or decimal logarithm
    "optimum": (0.0, 1e-2),  # of two minimisers
    "a tenth": (0.1, 0.1),  # of a random estimate, or of a search that stops early
    "a fifth": (0.2, 0.2),
    "rotated": (1e-5, 1e-5),  # positions as angles: the same differences of other angles round otherwise
    "sums": (1e-9, 0.0),  # of many float64
    "batches": (0.0, 1e-5),  # the same float32 model, records in other batches
    "steps": (1e-4, 1e-5),  # of training, in float32, whose sums have another order
    "float16": (2e-3, 1e-4),
    "float16 values": (0.0, 2e-3),  # that float16 has added up
    "cuda": (0.0, 1e-3),  # kernels of another device
    "four digits": (0.0, 1e-4),  # as printed, or of an iteration that stops there
    "six digits": (0.0, 1e-6),
    "a hundredth": (0.0, 0.01),  # of probabilities and other estimates on a scale of 1, from many draws
    "a fiftieth": (0.0, 0.02),
    "a twentieth": (0.0, 0.05),
    "three twentieths": (0.0, 0.15),
    "smoothed": (2e-3, 0.0),  # by four records among a thousand or more
    "5 %": (0.05, 0.0),  # of random estimates on any scale
    "10 %": (0.1, 0.0),
}


def assert_close(actual: Any, expected: Any, tolerance: str = "float32") -> None:
    """Fails unless both have one shape and agree within the named tolerance; takes arrays, tensors and numbers."""
    rtol, atol = TOLERANCES[tolerance]
    np.testing.assert_allclose(_array(actual), _array(expected), rtol=rtol, atol=atol, strict=True)


def near(expected: Any, tolerance: str = "float32") -> Any:
    """What ``==`` finds equal to every number, list or mapping of numbers within the named tolerance."""
    rtol, atol = TOLERANCES[tolerance]
    return pytest.approx(expected, rel=rtol or None, abs=atol)  # a relative one refuses texts


def _array(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)


@contextmanager
def unchanged_files(folder: Path) -> Iterator[None]:
    """Fails if the block makes, removes or changes a file of the folder, also behind links."""
    before = _contents(folder)
    yield
    assert _contents(folder) == before


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@contextmanager
def full_disk(room: int = 0) -> Iterator[None]:
    """No file of this process can grow beyond so many bytes: as on a full disk, every further write is an OSError."""
    resource = pytest.importorskip("resource", reason="this system sets no limits to files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested values with dotted keys changed: ``{"train.epochs": 3}``."""
    copied = copy.deepcopy(dict(values))
    for key, value in changes.items():
        node = copied
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return copied
