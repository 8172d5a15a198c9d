"""Batches of records of similar length, read ahead. Never imports torch."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence, Sized
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, Literal

from multimodal.decoding import Prediction
from multimodal.inference.sources import RecordSource, Sample
from multimodal.records import RecordError
from multimodal.runtime.threads import available_cores

RecordResult = dict[str, Prediction] | RecordError
"""Task -> prediction; or the reason why the record has none."""
Predict = Callable[[list[Sample]], Sequence[dict[str, Prediction]]]
OnError = Literal["raise", "return"]
LOOK_AHEAD = 3
"""Batches that are read ahead when a whole table is predicted."""
_MOST_READERS = 8
_MAX_REASON = 500  # characters


def predicted_batches(
    source: RecordSource,
    predict: Predict,
    *,
    batch_size: int,
    on_error: OnError,
    look_ahead: int,
) -> Iterator[list[RecordResult]]:
    """Predictions in the source's order, ``batch_size`` at a time; a bad record spoils no other.

    Args:
        predict: samples of one batch -> their predictions.
        look_ahead: batches read beyond one. They and it make a window: its records are sorted by length, so that
            little is padded, and the next one is read meanwhile. At most two windows are in memory.

    Raises:
        RecordError: for the first bad record of a window, if ``on_error`` is "raise".
        Exception: of ``predict``, if it fails for every record of a batch of several: that is no record's fault.
    """
    size = window_size(batch_size, look_ahead)
    if isinstance(source.rows, Sized):
        size = min(size, max(1, len(source.rows)))
    first = 0
    with _readers(size) as pool:
        for window in _windows(source, size, pool, ahead=look_ahead > 0):
            if on_error == "raise":
                _raise_first(window)
            results = _predict_window(window, predict, batch_size, first)
            if on_error == "raise":
                _raise_first(results)
            for start in range(0, len(results), batch_size):
                yield results[start : start + batch_size]
            first += len(window)


def window_size(batch_size: int, look_ahead: int) -> int:
    """Number of records that are sorted by length, and cut into batches, together.

    Raises:
        ValueError: if there is no such window.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; give at least 1")
    if look_ahead < 0:
        raise ValueError(f"look_ahead is {look_ahead}; give 0 or more batches")
    return batch_size * (look_ahead + 1)


def reason_of(error: Exception) -> str:
    """Message of an error of onnxruntime or torch, cut to a readable length."""
    return str(error).strip()[:_MAX_REASON]


def rounded_length(length: int, longest: int, *, sizes: int, shortest: int = 1) -> int:
    """Next of a few lengths per octave, at least ``shortest`` and at most ``longest``.

    Args:
        length: in tokens or samples; above ``longest`` it stays as it is.
        sizes: lengths per octave, a power of two: with 2 at most half is added, with 4 at most a quarter.

    >>> [rounded_length(length, 20_000, sizes=4) for length in (1, 9, 17, 100, 16_000)]
    [1, 10, 20, 112, 16384]
    >>> [rounded_length(length, 77, sizes=2, shortest=8) for length in (3, 9, 13, 40, 70)]
    [8, 12, 16, 48, 77]
    """
    wanted = max(length, shortest)
    step = max(1, (1 << wanted.bit_length() - 1) // sizes)  # the octave's first length, in so many parts
    return max(length, min(-(-wanted // step) * step, longest))


def length_key(sample: Sample) -> tuple[int, ...]:
    """Sort key that brings similar records together: the magnitude of each input's length, then the lengths."""
    sizes = [sum(array.size for array in arrays.values()) for arrays, _ in sample.values()]
    return (*(size.bit_length() for size in sizes), *sizes)


def _raise_first(found: Sequence[object]) -> None:
    for entry in found:
        if isinstance(entry, RecordError):
            raise entry


def _predict_window(
    window: Sequence[Sample | RecordError],
    predict: Predict,
    batch_size: int,
    first: int,
) -> list[RecordResult]:
    results: list[Any] = list(window)  # errors stay where they are
    good = [(row, sample) for row, sample in enumerate(window) if not isinstance(sample, RecordError)]
    if len(good) > batch_size:
        good.sort(key=lambda entry: length_key(entry[1]))
    for start in range(0, len(good), batch_size):
        batch = good[start : start + batch_size]
        numbered = [(first + row, sample) for row, sample in batch]
        for (row, _), given in zip(batch, _predict_batch(numbered, predict), strict=True):
            results[row] = given
    return results


def _predict_batch(batch: Sequence[tuple[int, Sample]], predict: Predict) -> list[RecordResult]:
    """Predictions of numbered records; one by one where the model fails, so that one spoils no other."""
    try:
        return list(predict([sample for _, sample in batch]))
    except Exception as error:  # onnxruntime's own have no base class in common
        if len(batch) == 1:
            problem = RecordError(batch[0][0], None, f"cannot be predicted: {reason_of(error)}")
            problem.__cause__ = error
            return [problem]
        alone = [_predict_batch([entry], predict)[0] for entry in batch]
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
    """One thread per core; none for a single record, which would only wait for it."""
    if size == 1:
        yield None
        return
    pool = ThreadPoolExecutor(min(_MOST_READERS, available_cores()), thread_name_prefix="reader")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
