"""HTTP of uvicorn with limits on a request's head, and on the cost of a rejection."""

import select
from asyncio import TimerHandle, Transport
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 65_536
_TOO_LARGE = f"The head of the request, or its end, has more than {MAX_HEAD_BYTES} bytes."
_SEPARATORS = len(": \r\n")
HEAD_SECONDS = 10.0
SILENT_SECONDS = 1.0
"""After the end of a server's work, until a connection on which nothing comes is closed."""


class Gate(Protocol):
    """Decides at each POST if there is room."""

    def refusal(self) -> bytes | None:
        """Whole response to a request that is rejected unread; None lets it pass, and counts it as pending."""

    def passed(self) -> None:
        """Ends a pending request: the application has counted it, or never will."""


def has_arrived(descriptor: int) -> bool:
    """True if a socket has something that was not read yet: bytes, their end, or a connection."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


class _Rejected:
    """Replaces a request's cycle, so that the rest of its body is dropped."""

    response_complete = True
    keep_alive = True

    def __init__(self) -> None:
        self.message_event = self

    def set(self) -> None:
        """Does nothing: nobody waits."""


class _Peer:
    """Transport that drops writes after its end, as asyncio's own does; uvloop's raises RuntimeError."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.close = transport.close
        self.is_closing = transport.is_closing
        self.get_extra_info = transport.get_extra_info

    def write(self, data: bytes) -> None:
        """Sends data while the connection is open."""
        if not self._transport.is_closing():
            self._transport.write(data)


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose head or trailers are larger or slower than any legitimate one.

    If the server is full, a POST is rejected here: passing it to the application would cost a fifth of a millisecond,
    and under three times the load that is a fifth of the throughput.

    Args:
        gate: decides at each POST if there is room.
    """

    def __init__(self, *args: Any, gate: Gate, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gate = gate
        self._in_head = False
        self._head_timer: TimerHandle | None = None
        self._overhead = 0
        """Bytes since a head ended, or a piece of a body: of a head or of trailers that have not ended."""
        self._lines = 0
        """Bytes in lines of the current head, or of its trailers."""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Starts the timer of the first head."""
        super().connection_made(transport)
        self.transport = _Peer(transport)  # type: ignore[assignment]
        self._start_clock()

    def data_received(self, data: bytes) -> None:
        """Counts bytes of a head, or of trailers, that do not end."""
        self._overhead += len(data)
        super().data_received(data)
        if self._in_head:
            self._start_clock()  # not before: nearly every head comes whole
        if self._overhead > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Begins a head."""
        super().on_message_begin()
        self._in_head = True
        self._lines = 0

    def on_url(self, url: bytes) -> None:
        """Takes a piece of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_headers_complete(self) -> None:
        """Ends a head; rejects its request if there is no room."""
        self._in_head = False
        self._overhead = self._lines = 0
        self._stop_clock()
        if self._is_answering() or self.parser.get_method() != b"POST" or not self.parser.should_keep_alive():
            super().on_headers_complete()
            return
        refusal = self._gate.refusal()
        if refusal is None:
            try:
                super().on_headers_complete()  # raises for an invalid address
            finally:
                self.loop.call_soon(self._gate.passed)  # after the first step of the application, which counts it
            return
        self.cycle = _Rejected()  # type: ignore[assignment]
        self.transport.write(refusal)
        self.on_response_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a line of the head, and drops those of trailers."""
        self._count(len(name) + len(value) + _SEPARATORS)
        if self._in_head:
            super().on_header(name, value)

    def _count(self, size: int) -> None:
        """Counts what has come whole, perhaps with much behind it in one read."""
        self._lines += size
        if self._lines > MAX_HEAD_BYTES:
            self.send_400_response(_TOO_LARGE)
            raise ValueError(_TOO_LARGE)  # ends the parser

    def on_body(self, body: bytes) -> None:
        """Takes a piece of the body."""
        self._overhead = 0
        super().on_body(body)

    def shutdown(self) -> None:
        """Closes the connection after the request that is under way, or else when nothing comes for a second.

        Who has just connected is about to send, and the kernel may hold a request that was not read yet.
        """
        super().shutdown() if self._is_answering() else self.loop.call_later(SILENT_SECONDS, self._close_if_silent)

    def _close_if_silent(self) -> None:
        is_silent = not self._in_head and not self._is_answering()
        if is_silent and not self.transport.is_closing():
            descriptor = self.transport.get_extra_info("socket").fileno()
            if not has_arrived(descriptor):
                self.transport.close()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the timer."""
        self._stop_clock()
        super().connection_lost(exc)

    def _start_clock(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_clock(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
