"""Waiting for what gives no event: one loop with a deadline, for every test."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 60, every: float = 0.02) -> None:
    """Asks until the condition holds; fails with the words of ``what`` after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not {what} within {seconds:g} s"
        time.sleep(every)
