"""One thread a process: tiny models lose more by waiting for each other's threads than they gain by them."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test leaves tokens in the user's cache, or finds those of another."""
    monkeypatch.setenv("MULTIMODAL_CACHE", str(tmp_path_factory.mktemp("cache")))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names of cases that no process or clock changes, so that parallel workers collect the same: a float wav holds
    the second it was written in, and a set has no order."""
    return argname if isinstance(val, bytes | set) else None
