"""Reading records ahead, and putting those of like length into one batch. Never imports torch."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence, Sized
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, Literal

from export.session import reason_of
from export.sources import RecordSource, Sample
from multimodal.decoding import Prediction
from multimodal.records import RecordError
from multimodal.runtime.threads import available_cores

RecordResult = dict[str, Prediction] | RecordError
"""Task -> prediction; or why the record has none."""
OnError = Literal["raise", "return"]
LOOK_AHEAD = 3
"""Batches that are read ahead where all of a table is answered."""
_MOST_READERS = 8


def predicted_batches(
    source: RecordSource,
    answer: Callable[[list[Sample]], Sequence[dict[str, Prediction]]],
    *,
    batch_size: int,
    on_error: OnError,
    look_ahead: int,
) -> Iterator[list[RecordResult]]:
    """Answers in the source's order, ``batch_size`` at a time; one bad record costs no other its answer.

    Args:
        answer: records that were read -> their answers; one batch.
        look_ahead: batches read beyond one. They and it make a window: its records are sorted by length, so that
            little is padded, and while it is answered the next one is read. At most two windows are in memory.

    Raises:
        RecordError: for the first bad record of a window, if ``on_error`` is "raise".
        Exception: of ``answer``, where it answers none of a batch of several: that is no record's fault.
    """
    size = batch_size * (look_ahead + 1)
    if isinstance(source.rows, Sized):
        size = min(size, max(1, len(source.rows)))
    first = 0
    with _readers(size) as pool:
        for window in _windows(source, size, pool, ahead=look_ahead > 0):
            if on_error == "raise":
                _raise_first(window)
            answers = _answer_window(window, answer, batch_size, first)
            if on_error == "raise":
                _raise_first(answers)
            for start in range(0, len(answers), batch_size):
                yield answers[start : start + batch_size]
            first += len(window)


def rounded_length(length: int, longest: int, *, sizes: int, shortest: int = 1) -> int:
    """The next of a few lengths an octave, at least ``shortest`` and at most ``longest``.

    Args:
        length: in tokens or samples; what is above ``longest`` stays as it is.
        sizes: an octave, a power of two: with 2 at most half is added, with 4 at most a quarter.

    >>> [rounded_length(length, 20_000, sizes=4) for length in (1, 9, 17, 100, 16_000)]
    [1, 10, 20, 112, 16384]
    >>> [rounded_length(length, 77, sizes=2, shortest=8) for length in (3, 9, 13, 40, 70)]
    [8, 12, 16, 48, 77]
    """
    wanted = max(length, shortest)
    step = max(1, (1 << wanted.bit_length() - 1) // sizes)  # the octave's first length, in so many parts
    return max(length, min(-(-wanted // step) * step, longest))


def length_key(sample: Sample) -> tuple[int, ...]:
    """What records of one batch should have in common: the magnitude of each input's length, then the lengths."""
    sizes = [sum(array.size for array in arrays.values()) for arrays, _ in sample.values()]
    return (*(size.bit_length() for size in sizes), *sizes)


def _raise_first(found: Sequence[object]) -> None:
    for entry in found:
        if isinstance(entry, RecordError):
            raise entry


def _answer_window(
    window: Sequence[Sample | RecordError],
    answer: Callable[[list[Sample]], Sequence[dict[str, Prediction]]],
    batch_size: int,
    first: int,
) -> list[RecordResult]:
    answers: list[Any] = list(window)  # errors stay where they are
    good = [(row, sample) for row, sample in enumerate(window) if not isinstance(sample, RecordError)]
    if len(good) > batch_size:
        good.sort(key=lambda entry: length_key(entry[1]))
    for start in range(0, len(good), batch_size):
        batch = good[start : start + batch_size]
        numbered = [(first + row, sample) for row, sample in batch]
        for (row, _), given in zip(batch, _answer_batch(numbered, answer), strict=True):
            answers[row] = given
    return answers


def _answer_batch(
    batch: Sequence[tuple[int, Sample]], answer: Callable[[list[Sample]], Sequence[dict[str, Prediction]]]
) -> list[RecordResult]:
    """Answers of records by their numbers; where the model fails, of each by itself, so that one spoils no other's."""
    try:
        return list(answer([sample for _, sample in batch]))
    except Exception as error:  # onnxruntime's own have no base class in common
        if len(batch) == 1:
            problem = RecordError(batch[0][0], None, f"cannot be answered: {reason_of(error)}")
            problem.__cause__ = error
            return [problem]
        alone = [_answer_batch([entry], answer)[0] for entry in batch]
        if all(isinstance(found, RecordError) for found in alone):
            raise
        return alone


def _windows(
    source: RecordSource, size: int, pool: Executor | None, *, ahead: bool
) -> Iterator[list[Sample | RecordError]]:
    rows = iter(enumerate(source.rows))
    if pool is None:
        while window := list(islice(rows, size)):
            yield [source.read(number, row) for number, row in window]
        return
    pending: deque[list[Future[Sample | RecordError]]] = deque()
    while True:
        while len(pending) < 1 + ahead:
            reading = [pool.submit(source.read, number, row) for number, row in islice(rows, size)]
            if not reading:
                break
            pending.append(reading)
        if not pending:
            return
        yield [future.result() for future in pending.popleft()]


@contextmanager
def _readers(size: int) -> Iterator[Executor | None]:
    """A thread a core; none for one record, which would only wait for it."""
    if size == 1:
        yield None
        return
    pool = ThreadPoolExecutor(min(_MOST_READERS, available_cores()), thread_name_prefix="reader")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
