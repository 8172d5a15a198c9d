"""Training that is stopped in the middle of a step, as if its process had been killed."""

from collections.abc import Callable, Sequence

import pytest

from multimodal.data.dataset import Batch
from multimodal.trainer.step import Step


class KilledError(Exception):
    """Stands for the end of the process."""


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Raises at the ``step``-th step from here on."""
    original: Callable[..., float] = Step.__call__
    calls = 0

    def call(self: Step, parts: Sequence[Batch], *arguments: float, **options: bool) -> float:
        nonlocal calls
        calls += 1
        if calls == step:
            raise KilledError
        return original(self, parts, *arguments, **options)

    monkeypatch.setattr(Step, "__call__", call)
