"""From records to batches: augment, preprocess, stack; decoded in worker processes."""

import os
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from encoders.preprocessing import Arrays, UnreadableValueError
from multimodal.config.setting import TARGET
from multimodal.data.order import BLANK, StepOrder, StepSampler
from multimodal.records import InputReader, RecordError, Records, stack_inputs
from multimodal.records.targets import Cell, TargetReader
from multimodal.runtime.workers import in_brief, read_ahead

Key = tuple[int, int]
"""(epoch, row)."""
Augmentation = Callable[..., Any]
"""raw, epoch=..., row=... -> raw."""


@dataclass(frozen=True)
class Sample:
    """One record, ready to be stacked."""

    row: int
    inputs: dict[str, tuple[Arrays, bool]]
    targets: dict[str, Cell | None]
    weight: float = 1.0
    """In every loss."""
    origin: int = TARGET
    error: RecordError | None = None
    """Reason why the record is unusable; all its inputs are then missing and its labels unknown."""


@dataclass(frozen=True)
class Batch:
    """Records side by side."""

    inputs: dict[str, dict[str, Tensor]]
    """Input -> tensor name, or "present" (bool [b]) -> tensor."""
    targets: dict[str, Tensor]
    """Task -> targets; a placeholder where ``known`` is False."""
    known: dict[str, Tensor]
    """Task -> bool [b]."""
    rows: list[int]
    weights: Tensor
    """Of each record in every loss, float32 [b]."""
    errors: list[RecordError] = field(default_factory=list)
    origin: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    """Of each record: TARGET, SOURCE, UNLABELLED, or BLANK (no readable record); int64 [b], or empty."""

    def each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with every tensor changed."""
        return replace(
            self,
            inputs={
                name: {key: change(tensor) for key, tensor in tensors.items()} for name, tensors in self.inputs.items()
            },
            targets={name: change(tensor) for name, tensor in self.targets.items()},
            known={name: change(tensor) for name, tensor in self.known.items()},
            weights=change(self.weights),
            origin=change(self.origin),
        )

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        return self.each(lambda tensor: tensor.to(device, non_blocking=True))


class SampleDataset(Dataset[Sample]):
    """Samples by key (epoch, row), with the readers that stack them."""

    readers: dict[str, InputReader]
    targets: dict[str, TargetReader]

    @abstractmethod
    def place(self, key: Key) -> str:
        """Name of its record in messages."""


class RecordDataset(SampleDataset):
    """Records as samples, by key (epoch, row); the epoch only seeds the augmentation.

    An unreadable record becomes a blank sample with its error, which survives the worker processes.

    Args:
        weights: of each record in every loss, [n]; None: equal weights.
        origin: of all of them.

    Raises:
        ValueError: if there is not one weight per record.
    """

    def __init__(
        self,
        records: Records,
        readers: Mapping[str, InputReader],
        targets: Mapping[str, TargetReader],
        augmentations: Mapping[str, Augmentation] | None = None,
        weights: np.ndarray | None = None,
        origin: int = TARGET,
    ) -> None:
        self.records = records
        self.origin = origin
        self.readers = dict(readers)
        self.targets = dict(targets)
        self.augmentations = dict(augmentations or {})
        self.weights = np.ones(len(records)) if weights is None else np.asarray(weights, dtype=np.float64)
        if self.weights.shape != (len(records),):
            raise ValueError(f"there are {self.weights.shape} weights for {len(records)} records; give one per record")

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: Key) -> Sample:
        epoch, row = key
        if row == BLANK:
            return self._blank(row)
        try:
            inputs = {name: self.read(name, epoch, row) for name in self.readers}
            if not any(present for _, present in inputs.values()):
                columns = ", ".join(reader.column for reader in self.readers.values())
                raise self._error(row, None, None, f"every input is missing ({columns}); fill in at least one")
            targets = {name: self._target(name, row) for name in self.targets}
            return Sample(row, inputs, targets, float(self.weights[row]), self.origin)
        except RecordError as error:
            return self._blank(row, error)

    def place(self, key: Key) -> str:
        """File and row, counted as people do."""
        return "no record" if key[1] == BLANK else self.records.place(key[1], None)

    def read(self, name: str, epoch: int, row: int) -> tuple[Arrays, bool]:
        """Arrays of one input of a record, and its presence.

        Raises:
            RecordError: if it is given but cannot be read.
        """
        augmentation = self.augmentations.get(name)
        augment = None if augmentation is None else partial(augmentation, epoch=epoch, row=row)
        records = self.records
        try:
            return self.readers[name].read(records[row], records.root, records.allow_outside, augment=augment)
        except UnreadableValueError as error:
            raise self._error(row, name, self.readers[name].column, str(error)) from error

    def _target(self, name: str, row: int) -> Cell | None:
        try:
            return self.targets[name].read(self.records[row])
        except UnreadableValueError as error:
            raise self._error(row, name, self.targets[name].column, str(error)) from error

    def _error(self, row: int, name: str | None, column: str | None, reason: str) -> RecordError:
        return RecordError(row, name, f"{self.records.place(row, column)}: {reason}")

    def _blank(self, row: int, error: RecordError | None = None) -> Sample:
        inputs = {name: (reader.preprocessor.blank(), False) for name, reader in self.readers.items()}
        return Sample(row, inputs, dict.fromkeys(self.targets), origin=BLANK, error=error)


def collate(
    samples: Sequence[Sample], readers: Mapping[str, InputReader], targets: Mapping[str, TargetReader]
) -> Batch:
    """Stacks samples, with ``present`` and ``known``."""
    inputs = stack_inputs(readers, [sample.inputs for sample in samples])
    return Batch(
        inputs={name: {key: torch.from_numpy(a) for key, a in arrays.items()} for name, arrays in inputs.items()},
        targets={n: torch.from_numpy(reader.stack([s.targets[n] for s in samples])) for n, reader in targets.items()},
        known={name: torch.tensor([s.targets[name] is not None for s in samples]) for name in targets},
        rows=[sample.row for sample in samples],
        weights=torch.tensor([sample.weight for sample in samples], dtype=torch.float32),
        errors=[sample.error for sample in samples if sample.error is not None],
        origin=torch.tensor([sample.origin for sample in samples], dtype=torch.int64),
    )


def num_workers(setting: int | str) -> int:
    """Number of decoding processes; "auto": one per core but one, at most 8."""
    if isinstance(setting, int):
        return setting
    return max(1, min(8, len(os.sched_getaffinity(0)) - 1)) if hasattr(os, "sched_getaffinity") else 1


def training_batches(
    dataset: SampleDataset,
    sampler: StepSampler,
    *,
    parts: int = 1,
    workers: int = 0,
    check: Callable[[], None] = lambda: None,
) -> Generator[list[Batch]]:
    """Micro-batches of each step, decoded ahead of time in ``workers`` processes.

    Args:
        check: called while waiting; may raise.
    """
    read, place = partial(_read_parts, dataset, parts), partial(_places, dataset)
    return read_ahead(read, sampler, workers=workers, place=place, check=check)


@dataclass(frozen=True)
class StepLoader:
    """Micro-batches of any stretch of steps."""

    data: SampleDataset
    order: StepOrder
    """Rows of each step."""
    accumulate: int = 1
    """Micro-batches that each step's batch is cut into."""
    workers: int = 0
    """Decoding processes."""

    def steps(
        self, start: int, stop: int, *, rank: int = 0, world: int = 1, check: Callable[[], None] = lambda: None
    ) -> Generator[list[Batch]]:
        """Micro-batches of the steps from ``start`` to before ``stop``, for one of ``world`` processes.

        Args:
            check: called while waiting; may raise.
        """
        sampler = StepSampler(self.order, start, stop, rank=rank, world=world)
        return training_batches(self.data, sampler, parts=self.accumulate, workers=self.workers, check=check)


def evaluation_batches(dataset: RecordDataset, *, batch_size: int, workers: int = 0) -> Iterator[Batch]:
    """All records once, in order."""
    keys = [(0, row) for row in range(len(dataset))]
    batches = [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]
    read, place = partial(_read_parts, dataset, 1), partial(_places, dataset)
    for parts in read_ahead(read, batches, workers=workers, place=place):
        yield from parts


def _read_parts(dataset: SampleDataset, parts: int, keys: list[Key]) -> list[Batch]:
    samples = [dataset[key] for key in keys]
    cuts = np.array_split(np.arange(len(samples)), min(parts, len(samples)))
    return [collate([samples[index] for index in cut], dataset.readers, dataset.targets) for cut in cuts]


def _places(dataset: SampleDataset, keys: list[Key]) -> str:
    return in_brief([dataset.place(key) for key in keys])
