"""Progress of a training: rate and time left, in plain lines."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


@contextmanager
def quiet(*, but: str | None = None) -> Iterator[None]:
    """Has ``multimodal`` log nothing less than errors inside the block.

    Args:
        but: name of a logger that still warns.
    """
    levels = {"multimodal": logging.ERROR} | ({but: logging.WARNING} if but is not None else {})
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


class Progress:
    """Logs how far a stretch of steps is, at most every ``every_seconds``.

    Args:
        total: steps of the whole stretch.
        done: steps already made by an earlier process.
    """

    def __init__(self, total: int, *, done: int = 0, every_seconds: float = 10.0) -> None:
        self._total, self.done, self._every = total, done, every_seconds
        self._begin = self._last = time.monotonic()
        self._first, self._records = done, 0

    def advance(self, records: int, label: str) -> None:
        """One more step of ``records`` records."""
        self.done += 1
        self._records += records
        now = time.monotonic()
        if now - self._last >= self._every:
            self._last = now
            logger.info(f"{label}, {self.pace()}")

    def pace(self) -> str:
        """Records a second so far, and the time left at that rate."""
        spent = max(1e-9, time.monotonic() - self._begin)
        left = spent / max(1, self.done - self._first) * (self._total - self.done)
        return f"{self._records / spent:.0f} records/s, {format_seconds(left)} left"


def format_seconds(seconds: float) -> str:
    """Minutes and seconds.

    >>> format_seconds(75)
    '1:15'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
