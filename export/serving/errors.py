"""Why a request gets no answer, as HTTP says it."""

from typing import Any

MAX_REASON = 600
"""Characters; a reason may quote what was sent."""


class RequestError(Exception):
    """A request that is refused; the reason is for who sent it.

    >>> RequestError(413, "too large").content()
    {'error': 'too large'}
    """

    def __init__(
        self,
        status: int,
        reason: str,
        *,
        record: int | None = None,
        input: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason if len(reason) <= MAX_REASON else reason[:MAX_REASON] + "..."
        self.record = record
        """Counts from 0."""
        self.input = input
        self.retry_after = retry_after
        """Seconds."""

    def content(self) -> dict[str, Any]:
        """The answer's JSON."""
        place = {"record": self.record, "input": self.input}
        return {"error": self.reason} | {key: value for key, value in place.items() if value is not None}
