"""Broken promises of a part, such as an encoder, as errors that say what to do. Never imports torch."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any


class ContractError(AssertionError):
    """A part that breaks a promise of its contract; the message names the promise, and what to do."""


def require(kept: bool, part: Any, promise: str, what: str, kind: str = "an encoder") -> None:
    """Raises a ContractError unless ``kept``; ``promise`` continues the words of ``kind``."""
    if not kept:
        raise ContractError(f"{called(part)} breaks the promise that {kind} {promise}: {what}")


@contextmanager
def contract_step(part: Any, promise: str, kind: str = "an encoder") -> Iterator[None]:
    """Turns whatever is raised inside into a ContractError."""
    try:
        yield
    except ContractError:
        raise
    except Exception as error:  # third-party code may raise anything
        lines = str(error).strip().splitlines() or [""]
        what = f"{type(error).__name__}: {lines[0][:300]}"
        raise ContractError(f"{called(part)} breaks the promise that {kind} {promise}: {what}") from error


def called(part: Any) -> str:
    """Name of a part in messages."""
    return getattr(part, "name", "") or getattr(part, "__name__", type(part).__name__)


def some(names: Collection[str]) -> str:
    """The first names of a list, and how many more there are."""
    shown = ", ".join(list(names)[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
