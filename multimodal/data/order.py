"""Orders in which training reads its records: pure functions of (seed, step), so that any step can be resumed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

BLANK = -1
"""Row number and origin of a blank record: all inputs missing, no label known."""


@dataclass(frozen=True)
class Order:
    """Rows of each training step: a pure function of (seed, step), so that any step can be resumed.

    Batches of an epoch differ by at most one record: a last batch of one would upset a BatchNorm.
    """

    num_rows: int
    batch_size: int
    """Records per step, over all processes."""
    seed: int
    weights: np.ndarray | None = None
    """[num_rows], proportional to the draws of a row, with replacement; None: each once per epoch."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one pass over the records."""
        return -(-self.num_rows // self.batch_size)

    def rows(self, epoch: int) -> np.ndarray:
        """The rows of an epoch, in order."""
        rng = np.random.default_rng((self.seed, epoch))
        if self.weights is None:
            return rng.permutation(self.num_rows)
        return rng.choice(self.num_rows, self.num_rows, p=self.weights / self.weights.sum())

    def blocks(self, epoch: int) -> list[list[np.ndarray]]:
        """For each step of an epoch its rows, as one block."""
        return [[rows] for rows in np.array_split(self.rows(epoch), self.steps_per_epoch)]


class StepOrder(Protocol):
    """Order as the sampler and the trainer use it."""

    @property
    def batch_size(self) -> int:
        """Records per step, over all processes."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        ...

    def blocks(self, epoch: int) -> Sequence[Sequence[np.ndarray]]:
        """For each step of an epoch the rows of each domain; processes share out the first axis of every block."""
        ...


class StepSampler:
    """The keys of each step from ``start`` on, for one of ``world`` processes.

    A process without a record in a step gets a blank one, so that all take part in every step.
    """

    def __init__(self, order: StepOrder, start: int, stop: int, *, rank: int = 0, world: int = 1) -> None:
        self.order, self.start, self.stop, self.rank, self.world = order, start, stop, rank, world

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        steps = self.order.steps_per_epoch
        for epoch in range(self.start // steps, -(-self.stop // steps)):
            for position, blocks in enumerate(self.order.blocks(epoch)):
                if self.start <= epoch * steps + position < self.stop:
                    mine = interleave([block[self.rank :: self.world].ravel() for block in blocks])
                    yield [(epoch, int(row)) for row in mine] or [(epoch, BLANK)]


def interleave(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """All rows, those of each block spread evenly, so that every micro-batch has some of each.

    >>> interleave([np.array([1, 2, 3, 4]), np.array([10, 20])]).tolist()
    [1, 10, 2, 3, 20, 4]
    """
    places = np.concatenate([(np.arange(len(block)) + 0.5) / max(1, len(block)) for block in blocks])
    return np.concatenate(blocks)[np.argsort(places, kind="stable")]


@dataclass(frozen=True)
class LabelOrder:
    """Rows of each training step, several of a label side by side: a pure function of (seed, step).

    Batches of some labels with some records each, as in Hermans et al. (2017), https://arxiv.org/abs/1703.07737. Ours
    differs: no label is drawn. Every record comes in every epoch; a label's records are cut into groups in a new order,
    its last group is filled up with other records of its own, and the last step with groups of the same epoch.

    When not to use: with a loss that compares a record with learned centres (ArcFace), not with others of the batch.
    """

    labels: np.ndarray
    """Number of each row's label, int [n]; rows without one share a number below 0, and are grouped like a label's."""
    batch_size: int
    """Records per step, over all processes."""
    seed: int
    group_size: int
    """Records of a label side by side."""

    @property
    def groups_per_step(self) -> int:
        """Number of groups in a step; two may be of one label."""
        return self.batch_size // self.group_size

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps until every record was used."""
        _, counts = np.unique(self.labels, return_counts=True)
        return -(-int((-(-counts // self.group_size)).sum()) // self.groups_per_step)

    def blocks(self, epoch: int) -> list[list[np.ndarray]]:
        """For each step of an epoch its rows, as one block of groups, [groups_per_step group_size]."""
        rng = np.random.default_rng((self.seed, epoch))
        groups = np.concatenate([self._groups(rng, label) for label in np.unique(self.labels)])
        shape = (self.steps_per_epoch, self.groups_per_step, self.group_size)
        return [[step] for step in np.resize(rng.permutation(groups), shape)]

    def _groups(self, rng: np.random.Generator, label: int) -> np.ndarray:
        rows = rng.permutation(np.flatnonzero(self.labels == label))
        return np.resize(rows, (-(-len(rows) // self.group_size), self.group_size))
