import faulthandler
import functools
import logging
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from multimodal.runtime import workers
from multimodal.runtime.workers import AHEAD, WorkerError, read_ahead

ROOT = Path(__file__).resolve().parents[3]


def results(work: Callable[[Any], Any], tasks: Any, count: int) -> list[Any]:
    return list(read_ahead(work, tasks, workers=count, place=lambda task: f"row {task}"))


def square(number: int) -> int:
    return number * number


# --- results -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("tasks", [0, 1, 2, 40])
def test_results_come_in_the_order_of_the_tasks(tasks, count):
    assert results(square, range(tasks), count) == [number**2 for number in range(tasks)]


VALUES = {
    "uint8": np.arange(3000, dtype=np.uint8).reshape(10, 3, 100),
    "three bytes, then float64": [np.arange(3, dtype=np.uint8), np.linspace(0, 1, 5)],
    "nothing": np.zeros((0, 4), dtype=np.float32),
    "a number": np.float32(3.5),
    "not in one piece": np.arange(12).reshape(3, 4)[:, ::2],
    "columns first": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "texts": ["red", "grün", "\x00"],
    "more than a socket holds": np.arange(2_000_000),
}


@pytest.mark.parametrize("name", VALUES)
def test_arrays_arrive_as_they_are_and_may_be_written(name):
    (arrived,) = results(VALUES.__getitem__, [name], 1)
    given = VALUES[name] if isinstance(VALUES[name], list) else [VALUES[name]]
    for value, expected in zip(arrived if isinstance(arrived, list) else [arrived], given, strict=True):
        assert np.array_equal(value, expected)
        if isinstance(expected, np.ndarray):
            assert (value.dtype, value.flags.writeable) == (expected.dtype, True)
            assert value.ctypes.data % value.itemsize == 0


TENSORS = {
    "pixels": torch.arange(3000).to(torch.uint8).reshape(10, 3, 100),
    "present": torch.tensor([True, False, True]),
    "a number": torch.tensor(2.5),
    "no origin": torch.zeros(0, dtype=torch.int64),
    "columns": torch.arange(12.0).reshape(3, 4).T,
    "float64": torch.linspace(0, 1, 7, dtype=torch.float64),
}


def test_tensors_arrive_without_shared_memory():
    (arrived,) = results(lambda task: TENSORS, [0], 1)
    assert all(torch.equal(arrived[name], tensor) for name, tensor in TENSORS.items())
    assert not any(tensor.is_shared() for tensor in arrived.values())


def test_no_more_processes_are_started_than_there_are_tasks():
    seen = set(results(lambda task: os.getpid(), range(2), 5))
    assert len(seen) == 2
    assert os.getpid() not in seen


# --- what fails --------------------------------------------------------------------------------------------------


class TwoPartsError(Exception):
    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} at {where}")


def fail_with(make: Callable[[], BaseException]) -> Callable[[int], int]:
    def work(task: int) -> int:
        if task == 3:
            raise make()
        return task

    return work


def local_error() -> Exception:
    class LocalError(Exception):
        pass

    return LocalError("of a class that no other process has")


def hold_a_lock(task: int) -> Any:
    return threading.Lock() if task == 3 else task


def ends_by(number: int, task: int) -> int:
    if task == 3:
        faulthandler.disable()  # pytest's would tell of it
        os.kill(os.getpid(), number)
    return task


def exits(code: int, task: int) -> int:
    if task == 3:
        os._exit(code)
    return task


@pytest.mark.parametrize(
    ("work", "kind", "match"),
    [
        (fail_with(lambda: KeyError("pixels")), KeyError, "pixels"),
        (fail_with(lambda: OSError(24, "Too many open files", "3.png")), OSError, r"Too many open files: '3.png'"),
        (fail_with(lambda: TwoPartsError("torn", "3.wav")), WorkerError, "failed: TwoPartsError: torn at 3.wav"),
        (fail_with(local_error), WorkerError, "failed: LocalError: of a class that no other process has"),
        (fail_with(MemoryError), WorkerError, "no memory left; set data.workers or train.batch_size lower"),
        (hold_a_lock, TypeError, "cannot pickle '_thread.lock' object"),
        (
            functools.partial(ends_by, signal.SIGKILL),
            WorkerError,
            r"was killed while it read row 3, as .* memory is out; set data.workers \(0: .*lower, or give it more",
        ),
        (
            functools.partial(ends_by, signal.SIGSEGV),
            WorkerError,
            "ended by SIGSEGV while it read row 3; .*leave them out one by one, or set data.workers: 0",
        ),
        (functools.partial(ends_by, signal.SIGBUS), WorkerError, "ended by SIGBUS while it read row 3"),
        (functools.partial(exits, 7), WorkerError, "ended with exit code 7 while it read row 3"),
        (fail_with(lambda: SystemExit(2)), WorkerError, "ended with exit code 2 while it read row 3"),
    ],
)
def test_what_fails_in_a_process_is_raised_and_no_process_is_left(work, kind, match):
    with pytest.raises(kind, match=match):
        results(work, range(40), 2)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    "error",
    [
        EOFError("No data left in file"),
        ConnectionResetError(104, "Connection reset by peer"),
        BrokenPipeError(32, "Broken pipe", "3.wav"),
        ConnectionRefusedError("the mount does not reply"),
        ConnectionError("3.png is on a share that has gone"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_end_of_file_or_connection_in_the_work_is_not_taken_for_the_process_s_end(error):
    with pytest.raises(type(error), match=re.escape(str(error))):
        results(fail_with(lambda: error), range(8), 2)


def test_an_error_says_where_in_the_process_it_was_raised():
    with pytest.raises(KeyError) as caught:
        results(fail_with(lambda: KeyError("pixels")), range(4), 1)
    assert "in work" in "".join(caught.value.__notes__)


def pause_at_3(task: int) -> int:
    if task == 3:
        signal.pause()
    return task


def test_a_process_that_gives_nothing_is_told_of_and_given_up(monkeypatch, caplog):
    reading = read_ahead(pause_at_3, range(20), workers=2, place=lambda task: f"row {task}")
    assert [next(reading) for _ in range(3)] == [0, 1, 2]
    monkeypatch.setattr(workers, "WARN_SECONDS", 0.2)
    monkeypatch.setattr(workers, "MOST_SECONDS", 0.4)
    with pytest.raises(WorkerError, match=r"gave nothing for \d+ seconds while it read row 3; .*data.workers: 0"):
        next(reading)
    assert "a decoding process has read row 3 for " in caplog.text
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_leaves_it_to_the_training_to_stop(number):
    assert results(functools.partial(ends_by, number), range(8), 2) == list(range(8))


@pytest.fixture
def file_descriptors() -> Iterator[Callable[[int], None]]:
    """Leaves so many more open files to this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def leave(count: int) -> None:
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + count, before[1]))

    yield leave
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("left", [0, 1, 3, 7, 12, 20])
def test_without_file_descriptors_fewer_processes_decode_or_this_one(file_descriptors, caplog, left):
    workers._warn_once.cache_clear()
    file_descriptors(left)
    pids = set(results(lambda task: os.getpid(), range(20), 8))
    started = len(pids - {os.getpid()})
    assert (os.getpid() in pids) == (started == 0)
    assert started <= left // 3  # a socket and the two ends that watch a process
    assert started >= left // 10
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    expected = f"{started} of 8 decoding processes (data.workers) could be started: [Errno 24] Too many open files"
    assert said == [expected]
    caplog.clear()
    results(square, range(20), 8)
    assert expected not in caplog.text


def test_file_descriptors_and_processes_are_given_back(file_descriptors):
    before = len(os.listdir("/dev/fd"))
    for count in range(1, 4):
        reading = read_ahead(square, range(100), workers=count, place=str)
        assert next(reading) == 0
        reading.close()
        assert not multiprocessing.active_children()
    assert len(os.listdir("/dev/fd")) == before


def test_tasks_are_asked_for_only_so_far_ahead():
    asked: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(100):
            asked.append(number)
            yield number

    reading = read_ahead(square, tasks(), workers=2, place=str)
    next(reading)
    assert len(asked) == 2 * AHEAD
    reading.close()


# --- in a process of its own -------------------------------------------------------------------------------------


READS = """
import numpy as np
from multimodal.runtime.workers import read_ahead
def work(task):
    return np.full((4, 3, 224, 224), task, np.uint8)
reading = read_ahead(work, range({tasks}), workers=2, place=str)
print(int(next(reading)[0, 0, 0, 0]), flush=True)
{then}
"""


def command(then: str, tasks: int) -> list[str]:
    return [sys.executable, "-c", READS.format(then=then, tasks=tasks)]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_processes_end_when_the_training_process_is_killed(number):
    process = subprocess.Popen(command("input()", 10**6), env=ENVIRONMENT, stdin=-1, stdout=-1)
    assert process.stdout is not None
    assert process.stdout.readline() == b"0\n"
    process.send_signal(number)
    process.communicate(timeout=240)  # their stdout is this one: it ends when the last of them has
    assert process.returncode == -number


@pytest.mark.slow
def test_a_program_ends_that_leaves_its_results_where_they_are():
    done = subprocess.run(command("", 10**6), env=ENVIRONMENT, capture_output=True, timeout=240, check=True)
    assert (done.stdout, done.stderr) == (b"0\n", b"")


@pytest.mark.slow
@pytest.mark.parametrize("size", ["0", "64k", "1m"])
def test_shared_memory_may_be_full(size):
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        pytest.skip("needs unshare, and leave to mount")
    script = 'mount -t tmpfs -o size=4k tmpfs /dev/shm && cp /proc/self/maps /dev/shm; "$@"'
    if size != "0":
        script = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && "$@"'
    program = command("print(sum(1 for _ in reading))", 40)
    done = subprocess.run(
        [unshare, "-m", "sh", "-c", script, "sh", *program],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    if "mount" in done.stderr:
        pytest.skip("needs leave to mount")
    assert (done.returncode, done.stdout) == (0, "0\n39\n"), done.stderr
