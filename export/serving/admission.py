"""How many requests are let in: a bounded number of records and of bytes."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from export.serving.responses import RequestError

_LONGEST_RETRY = 30


@dataclass
class Admission:
    """Counts what has been let in and not been answered.

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
    """Requests that the door has let pass and ``admit`` has not counted yet."""
    seconds_per_record: float = 0.0
    """Of late, from the batches; 0 where there were none."""

    @property
    def has_room(self) -> bool:
        """Whether another request may pass the door: what is on its way takes a record's room."""
        return self.records + self.pending < self.max_records

    @contextmanager
    def admit(self, size: int) -> Iterator["Permit"]:
        """Counts one request, as one record until its body has been read.

        Args:
            size: bytes of its body, as announced.

        Raises:
            RequestError: 429 where there is no room.
        """
        alone = self.records == 0  # a body above max_bytes would else never be let in
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

    def measured(self, records: int, seconds: float) -> None:
        """Takes note of how long a batch took."""
        latest = seconds / records
        self.seconds_per_record += 0.2 * (latest - self.seconds_per_record) if self.seconds_per_record else latest

    def full(self) -> RequestError:
        """The refusal, with the time after which there may be room."""
        wait = min(_LONGEST_RETRY, max(1, math.ceil(self.records * self.seconds_per_record)))
        return RequestError(
            429, f"{self.records} records are waiting, and no more are accepted; try again later", retry_after=wait
        )


@dataclass
class Permit:
    """A request that was let in."""

    admission: Admission
    records: int
    is_read: bool = False
    """Whether its body is there."""
    on_queued: Callable[[], None] | None = None
    """Is called when its records wait for the model, or never will."""

    def grow(self, records: int) -> None:
        """Says how many records the request has.

        Raises:
            RequestError: 429 where there is no room for them; 413 where there never is.
        """
        most, more = self.admission.max_records, records - self.records
        if records > most:
            raise RequestError(413, f"the request has {records} records; at most {most} are taken, send fewer")
        if self.admission.records + more > most:
            raise self.admission.full()
        self.admission.records += more
        self.records = records

    def queued(self) -> None:
        """Says, once, that nobody has to wait for its records to arrive."""
        if self.on_queued is not None:
            self.on_queued()
            self.on_queued = None
