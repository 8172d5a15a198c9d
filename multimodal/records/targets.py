"""Label columns: what the training records say about them, and turning a cell into a target."""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from encoders.preprocessing import UnreadableValueError
from multimodal.records.cells import class_label, content_number, is_missing, label_set
from multimodal.records.records import Records

LARGEST_FLOAT = f"at most {np.finfo(np.float64).max:.2g}"
MOST = 1e300
"""Largest regression target: answers may miss it by far, and the differences must be floats."""
Cell = np.ndarray | np.generic
"""One record's target."""


class TargetReader(ABC):
    """Reader of one task's column, whose cells become targets."""

    column: str | None
    """Column of the table that holds the labels; None where the task has none."""
    padding: ClassVar[float] = 0
    """Fills targets that are smaller than others along an axis."""

    @property
    @abstractmethod
    def placeholder(self) -> Cell:
        """A target of the right rank and dtype that the loss can be computed of."""

    @abstractmethod
    def read(self, row: Mapping[str, Any]) -> Cell | None:
        """The target of a record; None where it is not known. Raises UnreadableValueError."""

    def unseen(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """Labels of a record that training did not have."""
        return ()

    def stack(self, cells: Sequence[Cell | None]) -> np.ndarray:
        """Targets side by side, padded to the largest; the placeholder where there is none."""
        found = [self.placeholder if cell is None else cell for cell in cells]
        shape = tuple(max(sizes) for sizes in zip(*(np.shape(cell) for cell in found), strict=True))
        stacked = np.full((len(found), *shape), self.padding, np.asarray(self.placeholder).dtype)
        for row, cell in enumerate(found):
            place: tuple[int | slice, ...] = (row, *map(slice, np.shape(cell)))
            stacked[place] = cell
        return stacked

    def with_unseen(self, targets: np.ndarray, unseen: Sequence[Sequence[str]], unknown: Sequence[str]) -> np.ndarray:
        """Targets in which labels that training did not have are told apart.

        Args:
            targets: of the records, as ``stack`` gives them.
            unseen: of each record.
            unknown: all of them, each once.
        """
        return targets


@dataclass(frozen=True)
class ClassTarget(TargetReader):
    """One class per record; the target is its index in ``labels``, int64 []."""

    column: str
    labels: tuple[str, ...]
    open_set: bool = False
    """Whether other labels than these are as good: records are compared with each other, not with a list."""
    index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", label_index(self.labels))

    @property
    def placeholder(self) -> Cell:
        """The first class; of an open set -1, which is none: records of one class meet in the loss."""
        return np.int64(-1 if self.open_set else 0)

    def read(self, row: Mapping[str, Any]) -> Cell | None:
        """Index of the class; None where the cell is empty or the class was not in training."""
        value = row.get(self.column)
        index = None if is_missing(value) else self.index.get(class_label(value))
        return None if index is None else np.int64(index)

    def unseen(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """The class, where training did not have it."""
        value = row.get(self.column)
        return () if is_missing(value) or class_label(value) in self.index else (class_label(value),)

    def with_unseen(self, targets: np.ndarray, unseen: Sequence[Sequence[str]], unknown: Sequence[str]) -> np.ndarray:
        """Indices beyond ``labels`` for the others."""
        places = {label: len(self.labels) + place for place, label in enumerate(unknown)}
        return np.array([places[labels[0]] if labels else old for old, labels in zip(targets, unseen, strict=True)])


def label_index(labels: Sequence[str]) -> dict[str, int]:
    """Label, as ``class_label`` gives it, -> its place; of older runs labels may be decomposed (NFD)."""
    places = {label: place for place, label in enumerate(labels)}
    return {class_label(label): place for label, place in places.items()} | places


def class_readers(targets: Mapping[str, TargetReader]) -> dict[str, ClassTarget]:
    """Readers of tasks that tell the classes of training apart: classification."""
    return {name: reader for name, reader in targets.items() if isinstance(reader, ClassTarget) and not reader.open_set}


@dataclass(frozen=True)
class LabelSetTarget(TargetReader):
    """Any number of labels per record; the target is a row of zeros and ones, float32 [c]."""

    column: str
    labels: tuple[str, ...]
    index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", label_index(self.labels))

    @property
    def placeholder(self) -> Cell:
        """No label."""
        return np.zeros(len(self.labels), np.float32)

    def read(self, row: Mapping[str, Any]) -> Cell | None:
        """Zeros and ones; None where the cell is empty. A label that was not in training is left out."""
        value = row.get(self.column)
        if is_missing(value):
            return None
        places = [self.index[label] for label in label_set(value) if label in self.index]
        target = np.zeros(len(self.labels), np.float32)
        target[places] = 1
        return target

    def unseen(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """The labels that training did not have."""
        value = row.get(self.column)
        return () if is_missing(value) else tuple(label for label in label_set(value) if label not in self.index)

    def with_unseen(self, targets: np.ndarray, unseen: Sequence[Sequence[str]], unknown: Sequence[str]) -> np.ndarray:
        """One column more for each of the others."""
        extra = np.array([[label in labels for label in unknown] for labels in unseen], targets.dtype)
        return np.concatenate([targets, extra], axis=1)


@dataclass(frozen=True)
class NumberTarget(TargetReader):
    """A number a record, in the data's unit, float64 []: it is rounded only once it is standardised."""

    column: str

    @property
    def placeholder(self) -> Cell:
        """Zero."""
        return np.float64(0)

    def read(self, row: Mapping[str, Any]) -> Cell | None:
        """The number; None where the cell is empty."""
        number = parse_number(row.get(self.column))
        return None if number is None else np.float64(number)


@dataclass(frozen=True)
class PairTarget(TargetReader):
    """Contents of both inputs of a contrastive task, ``content_number`` of each, int64 [2]; known only where a record
    has both. Records that share either are no wrong answers of each other."""

    inputs: tuple[str, str]
    """Their columns."""
    column: None = None

    @property
    def placeholder(self) -> Cell:
        """It has none."""
        return np.zeros(2, np.int64)

    def read(self, row: Mapping[str, Any]) -> Cell | None:
        """Both numbers, or None where one is missing."""
        cells = [row.get(column) for column in self.inputs]
        return None if any(map(is_missing, cells)) else np.array([content_number(cell) for cell in cells], np.int64)


def parse_number(value: Any) -> float | None:
    """A regression cell as a float; None where it is empty.

    >>> parse_number(" 2.5 ")
    2.5

    Raises:
        UnreadableValueError: if it is not a finite number.
    """
    if is_missing(value):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    except OverflowError as error:
        raise UnreadableValueError(
            f"a number of {int(math.log10(abs(int(value)))) + 1} digits is not a finite number as floats "
            f"have them ({LARGEST_FLOAT}); write it in a larger unit, or empty the cell"
        ) from error
    if not math.isfinite(number):
        raise UnreadableValueError(
            f"{value!r} is not a finite number; this task is a regression: correct the cell or empty it"
        )
    return number


def mean_and_deviation(numbers: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of regression targets; of ordinary ones those of NumPy, to the last bit.

    They are computed of the numbers divided by a power of two, which changes no digit: the squares of 1e200 and 1e-200
    are no floats.

    >>> mean_and_deviation([2.0**-1000, 2.0**-999]) == (1.5 * 2.0**-1000, 0.5 * 2.0**-1000)
    True

    Raises:
        ValueError: if nothing can be learned of them; says why, as what a column has.
    """
    distinct = sorted(set(numbers))
    if len(distinct) < 2:
        found = ", ".join(map(repr, distinct)) or "none"
        raise ValueError(f"has {len(distinct)} distinct numbers ({found}); regression needs at least two")
    values = np.array(numbers, np.float64)
    largest = values[np.abs(values).argmax()]
    if abs(largest) > MOST:
        raise ValueError(
            f"has the number {largest:g}, and beyond {MOST:g} floats ({LARGEST_FLOAT}) leave no room to compute with; "
            "write the column in a larger unit, or correct the cell"
        )
    exponent = int(np.frexp(largest)[1])
    scaled = np.ldexp(values, -exponent)
    mean, deviation = np.ldexp([scaled.mean(), scaled.std()], exponent).tolist()
    if deviation < np.finfo(np.float64).tiny:
        raise ValueError(
            f"has numbers from {distinct[0]:g} to {distinct[-1]:g}, which differ by less than floats can divide by "
            f"({np.finfo(np.float64).tiny:g}); write the column in a smaller unit"
        )
    return mean, deviation


def class_counts(values: Iterable[Any]) -> Counter[str]:
    """Number of records of each class; empty cells are not counted."""
    return Counter(class_label(value) for value in values if not is_missing(value))


def balanced_weights(counts: Sequence[int]) -> list[float]:
    """Class weights in inverse proportion to the counts, such that the records' mean weight is 1.

    >>> balanced_weights([30, 10])
    [0.6666666666666666, 2.0]
    """
    present = sum(count > 0 for count in counts)
    return [sum(counts) / (present * count) if count else 0.0 for count in counts]


@dataclass(frozen=True)
class Truth:
    """A task's answers over a table, as metrics take them."""

    targets: np.ndarray
    """[n ...], over the records whose answer is known; an index or column beyond ``labels`` is one of ``unknown``."""
    rows: np.ndarray
    """Rows (from 0) of those records."""
    unknown: tuple[str, ...] = ()
    """Labels in the table that training did not have."""


def read_truth(reader: TargetReader, records: Records, rows: Iterable[int]) -> Truth:
    """The known answers among ``rows``; a label that training did not have counts, as one that cannot be right."""
    kept: list[int] = []
    cells: list[Cell | None] = []
    unseen: list[tuple[str, ...]] = []
    for row in rows:
        cell, labels = reader.read(records[row]), reader.unseen(records[row])
        if cell is not None or labels:
            kept.append(row)
            cells.append(cell)
            unseen.append(labels)
    unknown = tuple(dict.fromkeys(label for labels in unseen for label in labels))
    targets = reader.stack([None, *cells])[1:]  # the placeholder gives an empty table its shape
    if unknown:
        targets = reader.with_unseen(targets, unseen, unknown)
    return Truth(targets, np.array(kept, dtype=np.int64), unknown)
