"""Admission of requests: a bounded number of records and of bytes."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from export.serving.responses import RequestError

_LONGEST_RETRY = 30


@dataclass
class Admission:
    """Counts what is admitted and has no response yet.

    >>> admission = Admission(max_records=1, max_bytes=100)
    >>> with admission.admit(10):
    ...     admission.records
    1
    """

    max_records: int
    max_bytes: int
    records: int = 0
    bytes: int = 0
    pending: int = 0
    """Requests that the protocol let pass and ``admit`` has not counted yet."""
    seconds_per_record: float = 0.0
    """Moving average over batches; 0 before the first."""

    @property
    def has_room(self) -> bool:
        """True if another request may pass; a pending one counts as one record."""
        return self.records + self.pending < self.max_records

    @contextmanager
    def admit(self, size: int) -> Iterator["Permit"]:
        """Admits one request, as one record until its body has been read.

        Args:
            size: bytes of its body, as announced.

        Raises:
            RequestError: 429 where there is no room.
        """
        alone = self.records == 0  # a body above max_bytes would else never be admitted
        if self.records >= self.max_records or (self.bytes + size > self.max_bytes and not alone):
            raise self.full()
        permit = Permit(self, 1)
        self.records += 1
        self.bytes += size
        try:
            yield permit
        finally:
            self.records -= permit.records
            self.bytes -= size

    def observe(self, records: int, seconds: float) -> None:
        """Records the duration of a batch."""
        latest = seconds / records
        self.seconds_per_record += 0.2 * (latest - self.seconds_per_record) if self.seconds_per_record else latest

    def full(self) -> RequestError:
        """Error 429, with the time after which there may be room."""
        wait = min(_LONGEST_RETRY, max(1, math.ceil(self.records * self.seconds_per_record)))
        return RequestError(
            429, f"{self.records} records are waiting, and no more are admitted; try again later", retry_after=wait
        )


@dataclass
class Permit:
    """Room of one admitted request."""

    admission: Admission
    records: int
    on_read: Callable[[], None] = lambda: None
    """Called when its body has arrived whole."""
    on_queued: Callable[[], None] = lambda: None
    """Called after that, when its records wait for the model, or never will."""
    is_read: bool = False
    is_queued: bool = False

    def grow(self, records: int) -> None:
        """Sets the number of records of the request.

        Raises:
            RequestError: 429 where there is no room for them; 413 where there never is.
        """
        most, more = self.admission.max_records, records - self.records
        if records > most:
            raise RequestError(413, f"the request has {records} records; at most {most} are allowed, send fewer")
        if self.admission.records + more > most:
            raise self.admission.full()
        self.admission.records += more
        self.records = records

    def mark_read(self) -> None:
        """Calls ``on_read``."""
        self.is_read = True
        self.on_read()

    def mark_queued(self) -> None:
        """Calls ``on_queued``, once, if the body has arrived."""
        if self.is_read and not self.is_queued:
            self.is_queued = True
            self.on_queued()
