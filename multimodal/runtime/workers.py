"""Work done ahead of time in processes: nothing of it is lost in silence, and nothing is waited for without a bound."""

import atexit
import logging
import multiprocessing
import pickle
import queue
import signal
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Generic, TypeVar

import torch

from multimodal.runtime.messages import packed, receive, send

logger = logging.getLogger(__name__)

Job = TypeVar("Job")
Result = TypeVar("Result")
_Outcome = tuple[Exception | None, Any]
"""What the work raised, or its result."""

AHEAD = 4
"""Tasks that each process is given before their results are asked for."""
CHECK_SECONDS, WARN_SECONDS, MOST_SECONDS = 0.1, 60.0, 600.0
"""Without a result until ``check`` is called, until that is said, and until the process is given up."""


class WorkerError(RuntimeError):
    """A process that gives no results; the message says what was seen and what to set."""


def read_ahead(
    work: Callable[[Job], Result],
    tasks: Iterable[Job],
    *,
    workers: int,
    place: Callable[[Job], str],
    check: Callable[[], None] = lambda: None,
) -> Generator[Result]:
    """Results of all tasks in their order, made ahead of time in ``workers`` processes; 0 makes them here.

    Where no process can be started they are made here, too, after a warning, and where few can be started by these.
    Results come through sockets: they need neither shared memory, of which containers have 64 MB, nor an open file
    each.

    Args:
        work: can be sent to a process, as can tasks and results.
        place: what a task reads, for messages.
        check: is called while a result is waited for; what it raises ends the reading.

    Raises:
        WorkerError: if a process ends, or gives no result for ``MOST_SECONDS``.
        Exception: as ``work`` raises it; one that cannot be sent becomes a WorkerError with its words.
    """
    team: list[_Worker[Job, Result]] = []
    given: deque[tuple[_Worker[Job, Result], Job]] = deque()
    try:
        for number, task in enumerate(tasks):
            if number == len(team) < workers and not _enlarge(team, work, workers):
                workers = len(team)
            if not team:
                check()
                yield work(task)
                continue
            worker = team[number % len(team)]
            worker.ask(task)
            given.append((worker, task))
            if len(given) == AHEAD * len(team):
                worker, task = given.popleft()
                yield worker.result(place, task, check)
        while given:
            worker, task = given.popleft()
            yield worker.result(place, task, check)
    finally:
        for worker in team:
            worker.end()


def in_brief(places: Sequence[str]) -> str:
    """The first places, and how many there are more.

    >>> in_brief(["a.csv, row 1", "a.csv, row 9", "a.csv, row 4", "a.csv, row 2"])
    'a.csv, row 1; a.csv, row 9; and 2 more'
    """
    shown = places if len(places) <= 3 else [*places[:2], f"and {len(places) - 2} more"]
    return "; ".join(shown)


class _Worker(Generic[Job, Result]):
    """One process, and the thread that takes its results off the socket as they come.

    Raises:
        OSError, RuntimeError: if the system has no process, thread, memory or file descriptor left.
    """

    def __init__(self, work: Callable[[Job], Result]) -> None:
        self._outcomes: queue.SimpleQueue[_Outcome | None] = queue.SimpleQueue()  # None: there will be no more
        self._socket, theirs = socket.socketpair()
        self._process = multiprocessing.Process(target=_serve, args=(theirs, self._socket, work), daemon=True)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        atexit.register(self.end)  # before multiprocessing waits for its children, and these wait for us
        try:
            with theirs:
                self._process.start()
            self._thread.start()
        except BaseException:
            self.end()
            raise

    def ask(self, task: Job) -> None:
        """Gives it a task."""
        with suppress(ConnectionError):  # it has ended, and what listens to it says so
            send(self._socket, packed(task))

    def result(self, place: Callable[[Job], str], task: Job, check: Callable[[], None]) -> Result:
        """The result of the task that it was given first of those whose result was not taken."""
        outcome = self._wait(place, task, check)
        if outcome is None:
            raise WorkerError(self._how_it_ended(place(task)))
        error, result = outcome
        if error is not None:
            raise error
        return result

    def _wait(self, place: Callable[[Job], str], task: Job, check: Callable[[], None]) -> _Outcome | None:
        began, is_told = time.monotonic(), False
        while True:
            with suppress(queue.Empty):
                return self._outcomes.get(timeout=CHECK_SECONDS)
            check()
            waited = time.monotonic() - began
            if waited > MOST_SECONDS:
                raise WorkerError(
                    f"a decoding process gave nothing for {waited:.0f} seconds while it read {place(task)}; see "
                    "whether these files can be read at all, or set data.workers: 0 to read them in the training "
                    "process"
                )
            if waited > WARN_SECONDS and not is_told:
                is_told = True
                logger.warning("a decoding process has read %s for %.0f seconds", place(task), waited)

    def end(self) -> None:
        """Kills it: it only reads, so that nothing of it can be left half done."""
        atexit.unregister(self.end)
        with suppress(OSError):  # the process may have ended before
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()
        with suppress(ValueError):  # closed before; or it waits for a disk and cannot even be killed
            if self._process.pid is not None:
                self._process.kill()
                self._process.join(timeout=5)
                self._process.close()

    def _listen(self) -> None:
        try:
            while True:
                self._outcomes.put(receive(self._socket))
        except (EOFError, ConnectionError):
            self._outcomes.put(None)
        except Exception as error:
            self._outcomes.put((error, None))

    def _how_it_ended(self, where: str) -> str:
        self._process.join(timeout=5)
        code = self._process.exitcode
        if code == -signal.SIGKILL:
            return (
                f"a decoding process was killed while it read {where}, as the system does where memory is out; set "
                "data.workers (0: the training process decodes) or train.batch_size lower, or give it more memory"
            )
        how = f"with exit code {code}" if code is None or code >= 0 else f"by {signal.Signals(-code).name}"
        return (
            f"a decoding process ended {how} while it read {where}; one of these values may crash its decoder: leave "
            "them out one by one, or set data.workers: 0 to see it in the training process"
        )


def _enlarge(team: list[_Worker[Job, Result]], work: Callable[[Job], Result], workers: int) -> bool:
    """Starts one more process; False where the system has none."""
    try:
        team.append(_Worker(work))
    except (OSError, RuntimeError) as error:
        _warn_once(f"{len(team)} of {workers} decoding processes (data.workers) could be started: {error}")
        return False
    return True


@cache
def _warn_once(message: str) -> None:
    logger.warning(message)


# --- in the process ----------------------------------------------------------------------------------------------


def _serve(ours: socket.socket, theirs: socket.socket, work: Callable[[Any], Any]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):  # the training process decides when to stop
        signal.signal(number, signal.SIG_IGN)
    theirs.close()  # else it would never see that the training process has gone
    torch.set_num_threads(1)
    with suppress(EOFError, ConnectionError):  # nobody asks any more
        while True:
            send(ours, _result(work, receive(ours)))


def _result(work: Callable[[Any], Any], task: Any) -> list[bytes | memoryview]:
    try:
        return packed((None, work(task)))  # here, where what cannot be sent is an error like any other
    except MemoryError:
        return packed(
            (WorkerError("a decoding process has no memory left; set data.workers or train.batch_size lower"), None)
        )
    except Exception as error:
        return packed((_portable(error), None))


def _portable(error: Exception) -> Exception:
    """The error with its traceback as a note; another with its words where it would not arrive as it is."""
    trace = "in a decoding process:\n" + "".join(traceback.format_exception(error))
    try:
        arrives = type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:
        arrives = False
    error = error if arrives else WorkerError(f"a decoding process failed: {type(error).__name__}: {error}")
    error.add_note(trace)
    return error
