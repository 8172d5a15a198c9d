"""Start of a server, and its end, without losing accepted requests."""

import asyncio
import ctypes
import math
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn

from export.predictor import Predictor
from export.serving.app import create_app
from export.serving.decoders import decoders_muted
from export.serving.protocol import SILENT_SECONDS, BoundedProtocol, has_arrived
from export.serving.readiness import load_verified
from export.serving.service import Service
from export.serving.settings import Settings

_KEEP_ALIVE_SECONDS = 75  # longer than what load balancers keep a connection, so that they close it first
_HANDSHAKE_SECONDS = 0.1  # for those under way; most round trips are shorter
_LONGEST_ACCEPTING = 20 * _HANDSHAKE_SECONDS
_SO_ATTACH_FILTER = 26
_DROP_SYN = b"".join(  # instructions of classic BPF on a TCP header: of its flags, is SYN set? Drop, else keep
    struct.pack("HBBI", *instruction)
    for instruction in ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
)


def serve(
    folder: str | Path,
    settings: Settings | None = None,
    *,
    load: Callable[[Path], Predictor] = load_verified,
    listening: Callable[[str], None] = lambda address: None,
) -> None:
    """Serves until SIGTERM or SIGINT; accepted requests still get their responses.

    It listens at once and is ready when the bundle and its golden records have been checked.

    Args:
        folder: of the bundle.
        load: loads the bundle after checking it.
        listening: called with the address.

    Raises:
        OSError: if the port is taken.
        BundleError: if the bundle is not as it should be.
    """
    settings = Settings() if settings is None else settings
    service = Service(Path(folder), settings, load=load)
    with _listen(settings) as sock, _uninterrupted(), decoders_muted():
        listening(_address(settings.host, sock))
        GracefulServer(service).run(sockets=[sock])
    if service.failure is not None:
        raise service.failure


class GracefulServer(uvicorn.Server):
    """Server that stays open but not ready between the first signal and its end, and loses nothing at its end."""

    def __init__(self, service: Service) -> None:
        config = uvicorn.Config(
            create_app(service),
            http=partial(BoundedProtocol, gate=service),  # type: ignore[arg-type]  # it is only called
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=math.ceil(service.settings.timeout_seconds + SILENT_SECONDS) + 1,
        )
        super().__init__(config)
        self._service = service
        self._stop_at: float | None = None
        service.on_end = lambda: setattr(self, "should_exit", True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drains at the first signal, and exits at the second."""
        if self._stop_at is None:
            self._service.drain()
            self._stop_at = time.monotonic() + self._service.settings.drain_seconds
        else:
            self.should_exit = self.force_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops accepting, and ends when what the kernel has accepted has been answered.

        Closing a listening socket resets every connection that the kernel has accepted and this process has not, with
        the requests that were sent on it.
        """
        for sock in sockets or ():
            _refuse_new(sock)
            end = time.monotonic() + _LONGEST_ACCEPTING  # where it can only be closed, others may come all the time
            await asyncio.sleep(_HANDSHAKE_SECONDS)
            while has_arrived(sock.fileno()) and time.monotonic() < end:
                await asyncio.sleep(_HANDSHAKE_SECONDS)
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Exits when draining is over; called ten times per second."""
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Keeps this thread, and those that it starts, from preempting others when they wake (Linux).

    A flood of rejected requests would else interrupt the model at each of them, on one core for a tenth of the
    throughput (benchmarks/serving.md).
    """
    changed = False
    if hasattr(os, "SCHED_BATCH"):
        with suppress(OSError):  # a sandbox may forbid it
            changed = os.sched_getscheduler(0) == os.SCHED_OTHER  # another one was chosen by who started the process
            if changed:
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        if changed:
            with suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise OSError(
            f"{settings.host}, port {settings.port} is not available ({error}); give another --port, or 0 for any"
        ) from error


def _refuse_new(sock: socket.socket) -> None:
    """Drops requests for connections (Linux), while handshakes under way may end and be accepted.

    Their senders ask again after a second, and are then refused by the closed port.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
    with suppress(OSError):  # a sandbox may forbid it
        sock.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_DROP_SYN) // 8, ctypes.addressof(program))
        )


def _address(host: str, sock: socket.socket) -> str:
    port = sock.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
