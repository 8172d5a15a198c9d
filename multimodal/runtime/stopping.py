"""Stopping a training by a signal: where its state is whole, and if need be without it."""

import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)

STEP_SECONDS, EVALUATION_SECONDS = 30.0, 600.0
"""After a signal, until a step or an evaluation is given up; longer where one has taken half as long before."""


class Stopped(BaseException):  # no error
    """Training was asked to stop while it waited, with all that it has whole."""


class StopSignals:
    """SIGTERM, kept until it can be obeyed, and SIGINT; neither is waited out for ever.

    Args:
        at_once: whether ``check`` stops; False where other processes have to agree.
    """

    def __init__(self, *, at_once: bool) -> None:
        self.asked = False
        """Whether SIGTERM has come."""
        self._at_once = at_once
        self._stretch: tuple[float, float] | None = None
        """When the stretch that must end began, and the seconds that it has after a signal."""
        self._longest = 0.0

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Inside the block SIGTERM only raises a flag. In another thread than the main one it is left as it is."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._ask)
        try:
            with self._watched():
                yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def check(self) -> None:
        """For whoever waits with a whole state.

        Raises:
            Stopped: if SIGTERM has come.
        """
        if self.asked and self._at_once:
            raise Stopped

    @contextmanager
    def bounded(self, seconds: float) -> Iterator[None]:
        """A block that ends the process where it runs on so long after a signal, with the exit code of that."""
        began = time.monotonic()
        self._stretch = began, max(seconds, 2 * self._longest)
        try:
            yield
        finally:
            self._stretch = None
            self._longest = max(self._longest, time.monotonic() - began)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """A thread that hears of signals also while the main thread is inside a call that never returns."""
        heard, told = socket.socketpair()
        told.setblocking(False)
        before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        thread = threading.Thread(target=self._watch, args=(heard, before), daemon=True)
        thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            told.shutdown(socket.SHUT_RDWR)  # ends the thread, whatever processes hold a copy
            thread.join()
            told.close()
            heard.close()

    def _watch(self, heard: socket.socket, before: int) -> None:
        first: tuple[int, float] | None = None
        while True:
            if first is None or select.select([heard], [], [], 0.1)[0]:
                content = heard.recv(1)
                if not content:
                    return
                if before != -1:
                    os.write(before, content)
                if content[0] in (signal.SIGTERM, signal.SIGINT) and first is None:
                    first = content[0], time.monotonic()
            elif self._stretch is not None:
                number, since = first
                began, seconds = self._stretch
                if time.monotonic() > max(began, since) + seconds:
                    name = signal.Signals(number).name
                    try:
                        logger.error(
                            f"ended by {name}: what was under way did not end within {seconds:.0f} seconds; resume "
                            "from the checkpoint before it with --resume"
                        )
                    finally:  # also where nobody reads what is logged
                        os._exit(128 + number)
