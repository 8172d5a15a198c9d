"""HTTP as uvicorn speaks it, with bounds: on a request's head, and on what a refusal costs."""

from asyncio import TimerHandle, Transport
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 65_536
HEAD_SECONDS = 10.0


class Gate(Protocol):
    """Who says whether there is room."""

    def refusal(self) -> bytes | None:
        """The whole answer to a request that is not even looked at; None lets it pass, and counts it as on its way."""

    def passed(self) -> None:
        """One that was on its way has been counted by the application, or needs no counting."""


class _Refused:
    """Stands where a request's cycle does, so that what else comes of its body is dropped."""

    response_complete = True
    keep_alive = True

    def __init__(self) -> None:
        self.message_event = self

    def set(self) -> None:
        """Nobody waits."""


class _Peer:
    """A transport that drops what is written after its end, as asyncio's own does; uvloop's raises RuntimeError."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.close = transport.close
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Sends it, where anybody is there."""
        if not self._transport.is_closing():
            self._transport.write(data)


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose request's head is larger or slower than any honest one, or whose trailers are.

    Where the server is full, a POST is refused here: to take it as far as the application would cost a fifth of a
    millisecond, and under three times the load that is a fifth of all answers.

    Args:
        gate: says, at each POST, whether there is room.
    """

    def __init__(self, *args: Any, gate: Gate, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gate = gate
        self._in_head = True
        self._head_timer: TimerHandle | None = None
        self._overhead = 0
        """Bytes since the last end of a head and the last piece of a body: of a head, or of trailers."""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Starts the clock of the first head."""
        super().connection_made(transport)
        self.transport = _Peer(transport)  # type: ignore[assignment]
        self._start_clock()

    def data_received(self, data: bytes) -> None:
        """Counts what belongs to a head, or to trailers, that do not end."""
        self._overhead += len(data)
        super().data_received(data)
        if self._in_head:
            self._start_clock()  # not before: nearly every head comes whole
        if self._overhead > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The head of the request, or its end, has more than {MAX_HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._in_head = False
        self._overhead = 0
        self._stop_clock()
        is_busy = self.cycle is not None and not self.cycle.response_complete
        if is_busy or self.parser.get_method() != b"POST" or not self.parser.should_keep_alive():
            super().on_headers_complete()
            return
        refusal = self._gate.refusal()
        if refusal is None:
            try:
                super().on_headers_complete()  # raises for an address that is none
            finally:
                self.loop.call_soon(self._gate.passed)  # after the first step of the application, which counts it
            return
        self.cycle = _Refused()  # type: ignore[assignment]
        self.transport.write(refusal)
        self.on_response_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of the head; those of trailers are nobody's."""
        if self._in_head:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._overhead = 0
        super().on_body(body)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._stop_clock()
        super().connection_lost(exc)

    def _start_clock(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_clock(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
