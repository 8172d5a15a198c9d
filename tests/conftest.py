"""One thread a process: tiny models lose more by waiting for each other's threads than they gain by them."""

import functools
import gc
import os
import sys

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch
gc.set_threshold(20_000, 20, 20)  # the default costs a quarter of the time of tests that export


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test leaves tokens in the user's cache, or finds those of another."""
    monkeypatch.setenv("MULTIMODAL_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _one_table_of_operators() -> None:
    """torch's exporter builds its table of ONNX operators for each export, 0.25 s; here once a process."""
    for name in [name for name in sys.modules if name.startswith("onnxscript._framework_apis.torch_")]:
        module = sys.modules[name]
        if not hasattr(module.get_torchlib_ops, "cache_info"):
            module.get_torchlib_ops = functools.cache(module.get_torchlib_ops)


@pytest.fixture(autouse=True, scope="module")
def _what_stays_is_walked_once() -> None:
    """Python's collector looks at every object again and again, a million of them where all packages are loaded; those
    that are there when a file begins stay to the end, and count no more."""
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names of cases that no process or clock changes, so that parallel workers collect the same: a float wav holds
    the second it was written in, and a set has no order."""
    return argname if isinstance(val, bytes | set) else None
