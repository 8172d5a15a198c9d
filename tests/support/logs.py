"""What our packages log, as commands show it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from multimodal.console import ConsoleHandler


def shown(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Lines of a test so far; warnings begin with their level."""
    return [ConsoleHandler().format(record) for record in caplog.records]


@contextmanager
def logged() -> Iterator[list[str]]:
    """Lines of the block, also inside fixtures of a module; warnings begin with their level."""
    lines: list[str] = []

    class Kept(ConsoleHandler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Kept()
    logging.getLogger("multimodal").addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger("multimodal").removeHandler(handler)
