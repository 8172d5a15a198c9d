"""Retry of a step when the device's memory is out: it cuts its parts in halves, and keeps the batch as it is."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch

from multimodal.data.dataset import Batch

Result = TypeVar("Result")


class OutOfMemoryError(RuntimeError):
    """Smaller parts cannot help; the message says what to try."""


def split(parts: Sequence[Batch], most: int | None) -> list[Batch]:
    """The parts, each cut in halves until none has more than ``most`` records; None cuts nothing."""
    if most is None:
        return list(parts)
    return [piece for part in parts for piece in _pieces(part, most)]


def retry_with_smaller_micro_batches(
    attempt: Callable[[list[Batch]], Result], parts: Sequence[Batch], most: int | None, undo: Callable[[], None]
) -> tuple[Result, int | None]:
    """Tries with parts of at most ``most`` records, then with half as many each time that memory is out.

    Args:
        attempt: works through the parts; raises torch.OutOfMemoryError.
        undo: takes back what a failed attempt has changed.

    Returns:
        What ``attempt`` gave, and the largest part that fits.

    Raises:
        NoMemoryError: if not even single records fit.
    """
    while True:
        cut = split(parts, most)
        try:
            return attempt(cut), most
        except torch.OutOfMemoryError:
            pass  # the error holds the frames, and they hold the activations: they go at the end of this block
        undo()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        largest = max(len(part.rows) for part in cut)
        if largest == 1:
            raise OutOfMemoryError(
                "the device has no memory for a single record; take a smaller encoder or smaller inputs, freeze the "
                "encoders (transfer.strategy: linear_probe), or set train.precision to bf16"
            )
        most = (largest + 1) // 2


def _pieces(part: Batch, most: int) -> list[Batch]:
    size = len(part.rows)
    if size <= most:
        return [part]
    cut = (size + 1) // 2
    return [*_pieces(_rows(part, slice(0, cut)), most), *_pieces(_rows(part, slice(cut, size)), most)]


def _rows(part: Batch, rows: slice) -> Batch:
    return replace(part.each(lambda tensor: tensor[rows]), rows=part.rows[rows])
