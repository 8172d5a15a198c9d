"""Label columns: what the training records say about them, and turning a cell into a target."""

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from encoders.preprocessing import UnreadableValueError
from multimodal.content import content_number
from multimodal.records import Records, class_label, is_missing, label_set

Cell = np.ndarray | np.generic
"""One record's target."""


class TargetReader(Protocol):
    """One task's column, and how its cells become targets."""

    @property
    def column(self) -> str | None:
        """Column of the table that holds the answers; None where the task has none."""
        ...

    @property
    def placeholder(self) -> Cell:
        """A target of the right shape and dtype that the loss can be computed of."""
        ...

    def read(self, row: Mapping[str, Any]) -> Cell | None:
        """The target of a record; None where it is not known. Raises UnreadableValueError."""
        ...

    def unseen(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """Labels of a record that training did not have."""
        ...


@dataclass(frozen=True)
class ClassTarget:
    """One class a record; the target is its index in ``labels``, int64 []."""

    column: str
    labels: tuple[str, ...]
    open_set: bool = False
    """Whether other labels than these are as good: records are compared with each other, not with a list."""
    index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", {label: index for index, label in enumerate(self.labels)})

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


def class_readers(targets: Mapping[str, TargetReader]) -> dict[str, ClassTarget]:
    """Those of tasks that tell the classes of training apart: classification."""
    return {name: reader for name, reader in targets.items() if isinstance(reader, ClassTarget) and not reader.open_set}


@dataclass(frozen=True)
class LabelSetTarget:
    """Any number of labels a record; the target is a row of zeros and ones, float32 [c]."""

    column: str
    labels: tuple[str, ...]

    @property
    def placeholder(self) -> Cell:
        """No label."""
        return np.zeros(len(self.labels), np.float32)

    def read(self, row: Mapping[str, Any]) -> Cell | None:
        """Zeros and ones; None where the cell is empty. A label that was not in training is left out."""
        value = row.get(self.column)
        if is_missing(value):
            return None
        given = set(label_set(value))
        return np.array([label in given for label in self.labels], np.float32)

    def unseen(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """The labels that training did not have."""
        value = row.get(self.column)
        return () if is_missing(value) else tuple(label for label in label_set(value) if label not in self.labels)


@dataclass(frozen=True)
class NumberTarget:
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

    def unseen(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """Nothing: any number will do."""
        return ()


@dataclass(frozen=True)
class PairTarget:
    """What both inputs of a contrastive task hold, ``content_number`` of each, int64 [2]; known only where a record has
    both. Records that share either are no wrong answers of each other."""

    inputs: tuple[str, str]
    """Their columns."""
    column: None = None

    @property
    def placeholder(self) -> Cell:
        """It lacks them."""
        return np.zeros(2, np.int64)

    def read(self, row: Mapping[str, Any]) -> Cell | None:
        """Both numbers, or None where one is missing."""
        cells = [row.get(column) for column in self.inputs]
        return None if any(map(is_missing, cells)) else np.array([content_number(cell) for cell in cells], np.int64)

    def count(self, rows: Iterable[Mapping[str, Any]]) -> int:
        """How many records have both."""
        return sum(not any(is_missing(row.get(column)) for column in self.inputs) for row in rows)

    def unseen(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """Nothing: there are no labels."""
        return ()


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
    if not math.isfinite(number):
        raise UnreadableValueError(
            f"{value!r} is not a finite number; this task is a regression: correct the cell or empty it"
        )
    return number


def read_labels(value: Any, kind: str) -> tuple[Any, ...]:
    """The labels, or the number, that a cell holds; nothing where it is not known.

    >>> read_labels("new;sale", "multilabel"), read_labels("", "classification"), read_labels("2.5", "regression")
    (('new', 'sale'), (), (2.5,))

    Raises:
        UnreadableValueError: if it holds neither.
    """
    if is_missing(value):
        return ()
    if kind == "regression":
        return (parse_number(value),)
    return label_set(value) if kind == "multilabel" else (class_label(value),)


def nearest_label(label: str, known: Iterable[str]) -> str | None:
    """The label that was probably meant: the same number written in another way, or nearly the same letters.

    >>> nearest_label("1.0", ["1", "2"]), nearest_label("Appel", ["Apple", "Pear"]), nearest_label("Fig", ["Pear"])
    ('1', 'Apple', None)
    """
    known = list(known)
    same = [other for other in known if _as_number(other) == _as_number(label) is not None]
    near = same or difflib.get_close_matches(label, known, n=1, cutoff=0.8)
    return near[0] if near else None


def _as_number(label: str) -> float | None:
    try:
        return float(label)
    except ValueError:
        return None


def class_counts(values: Iterable[Any]) -> Counter[str]:
    """How many records have each class; empty cells are not counted."""
    return Counter(class_label(value) for value in values if not is_missing(value))


def label_counts(values: Iterable[Any]) -> Counter[str]:
    """How many records have each label of a multilabel column."""
    return Counter(label for value in values if not is_missing(value) for label in label_set(value))


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
    """The known answers among ``rows``; a label that training lacked counts, as one that cannot be right."""
    kept: list[int] = []
    cells: list[Cell | None] = []
    unseen: list[tuple[str, ...]] = []
    for row in rows:
        cell, labels = reader.read(records[row]), reader.unseen(records[row])
        if cell is not None or labels:
            kept.append(row)
            cells.append(cell)
            unseen.append(labels)
    lacking = dict.fromkeys(label for labels in unseen for label in labels)
    unknown = {label: index for index, label in enumerate(lacking)}
    targets = np.stack([reader.placeholder, *(reader.placeholder if cell is None else cell for cell in cells)])[1:]
    if isinstance(reader, ClassTarget):
        for place, labels in enumerate(unseen):
            if labels:
                targets[place] = len(reader.labels) + unknown[labels[0]]
    elif unknown:
        extra = np.array([[label in labels for label in unknown] for labels in unseen], targets.dtype)
        targets = np.concatenate([targets, extra], axis=1)
    return Truth(targets, np.array(kept, dtype=np.int64), tuple(unknown))
