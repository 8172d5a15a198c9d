"""Batches in which every label is there several times. Never imports torch."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LabelOrder:
    """Which rows each training step sees, several of a label side by side: a pure function of (seed, step).

    Batches of some labels with some records each, as in Hermans et al. (2017), https://arxiv.org/abs/1703.07737. Ours
    differs: no label is drawn. Every record comes in every epoch; a label's records are cut into groups in a new order,
    its last group is filled up with other records of its own, and the last step with groups of the same epoch.

    When not to use: with a loss that compares a record with learned centres (ArcFace), not with others of the batch.
    """

    labels: np.ndarray
    """Number of each row's label, int [n]; rows without one share a number below 0, and are grouped like a label's."""
    batch_size: int
    """Records a step, over all processes."""
    seed: int
    group_size: int
    """Records of a label side by side."""

    @property
    def groups_per_step(self) -> int:
        """How many labels a step has; one may be among them twice."""
        return self.batch_size // self.group_size

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps until every record was there."""
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
