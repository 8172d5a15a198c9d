"""Training records of several tables: target, source and unlabelled, each in every step."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from multimodal.config import ConfigError
from multimodal.data.dataset import RecordDataset, Sample, SampleDataset
from multimodal.data.order import Order

_SEEDS_APART = 1_000_003
"""Distance of the seeds of two tables, so that tables of equal length do not pair up their records."""


class JoinedDataset(SampleDataset):
    """Concatenated tables; errors name the row of the record's own table.

    Args:
        parts: with the same readers and targets.
    """

    def __init__(self, parts: Sequence[RecordDataset]) -> None:
        self.parts = list(parts)
        self.readers, self.targets = self.parts[0].readers, self.parts[0].targets
        self.starts = list(itertools.accumulate((len(part) for part in self.parts), initial=0))

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, row = key
        if row < 0:
            return self.parts[0][key]
        part, own = self._part_of(row)
        sample = part[epoch, own]
        error = sample.error
        if error is not None:
            error = type(error)(row, error.input, error.reason)
        return replace(sample, row=row, error=error)

    def place(self, key: tuple[int, int]) -> str:
        """File and row in its own table."""
        epoch, row = key
        part, own = self._part_of(max(0, row))
        return part.place((epoch, own if row >= 0 else row))

    def _part_of(self, row: int) -> tuple[RecordDataset, int]:
        place = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.parts[place], row - self.starts[place]


@dataclass(frozen=True)
class DomainOrder:
    """Order of several tables, each with its share of every step: a pure function of (seed, step).

    Each table is read pass after pass, each pass in an order of its own, regardless of epochs.
    """

    orders: tuple[Order, ...]
    """Of each table alone, in the order of the tables."""
    steps_per_epoch: int

    @property
    def batch_size(self) -> int:
        """Records per step, of all tables."""
        return sum(order.batch_size for order in self.orders)

    def blocks(self, epoch: int) -> list[list[np.ndarray]]:
        """For each step of an epoch the rows of each table."""
        starts = itertools.accumulate((order.num_rows for order in self.orders), initial=0)
        tables = [start + self._rows(order, epoch) for start, order in zip(starts, self.orders, strict=False)]
        return [[table[step] for table in tables] for step in range(self.steps_per_epoch)]

    def _rows(self, order: Order, epoch: int) -> np.ndarray:
        """A table's rows of each step of an epoch, [steps rows]."""
        count = self.steps_per_epoch * order.batch_size
        first, last = epoch * count // order.num_rows, ((epoch + 1) * count - 1) // order.num_rows
        passes = np.concatenate([order.rows(number) for number in range(first, last + 1)])
        skipped = epoch * count - first * order.num_rows
        return passes[skipped : skipped + count].reshape(self.steps_per_epoch, order.batch_size)


def domain_order(
    labelled: Sequence[tuple[int, np.ndarray | None]], unlabelled: int | None, *, batch_size: int, seed: int
) -> DomainOrder:
    """An order in which the labelled tables share a batch evenly, beside as many unlabelled records.

    Args:
        labelled: rows of each labelled table, and how often each is drawn, as ``Order`` takes it.
        unlabelled: rows of the unlabelled table; None where there is none.
        batch_size: labelled records per step.

    Raises:
        ConfigError: if the batch has fewer records than there are labelled tables.
    """
    if batch_size < len(labelled):
        raise ConfigError(
            f"train.batch_size is {batch_size} for {len(labelled)} labelled tables; give at least one record to each"
        )
    shares = [len(share) for share in np.array_split(np.arange(batch_size), len(labelled))]
    tables = [(rows, share, weights) for (rows, weights), share in zip(labelled, shares, strict=True)]
    if unlabelled is not None:
        tables.append((unlabelled, batch_size, None))
    orders = tuple(
        Order(rows, share, seed + _SEEDS_APART * number, weights)
        for number, (rows, share, weights) in enumerate(tables)
    )
    return DomainOrder(orders, -(-sum(rows for rows, _ in labelled) // batch_size))


def source_factor(order: DomainOrder) -> float:
    """Rate of target draws relative to source draws, by which source records have to be weighted."""
    target, source = order.orders[:2]
    return (source.num_rows / source.batch_size) / (target.num_rows / target.batch_size)
