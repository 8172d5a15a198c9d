"""The contract of task types: everything about a kind of task but the tensors of its head. Never imports torch."""

from abc import ABC
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from encoders.preprocessing.base import nearest_hint
from multimodal.records import class_label, is_missing
from multimodal.records.targets import ClassTarget, TargetReader
from multimodal.task_types.decoding import Decoding

if TYPE_CHECKING:
    from multimodal.config import Job, Task

Need = Literal["known", "labelled", "two", "different", "alike"]
"""What records must have: a known cell, a label, two known cells, two different ones, two equal ones."""


@dataclass(frozen=True)
class Metric:
    """A score of a task type that can choose the best weights."""

    need: Need = "known"
    """What records must have so that it is defined."""
    is_share: bool = True
    """Whether it lies in 0..1."""
    lower_is_better: bool = False


class TaskType(ABC):
    """One kind of task; register a subclass with ``register_task_type``.

    The head is named, not imported, so that a ``Predictor`` never loads it. Everything has a default that suits a task
    with one cell per record.
    """

    name: ClassVar[str]
    """As registered: ``type`` of a task in YAML."""
    head: ClassVar[str]
    """``module:class`` of the ``multimodal.model.heads.Head``."""
    decoding: ClassVar[type[Decoding]]
    metrics: ClassVar[Mapping[str, Metric]]
    """What can choose the best weights; ``decoding.metrics`` gives all of them."""
    main_metric: ClassVar[str]
    """What ``train.metric: mean`` takes."""
    learns_from: ClassVar[Need] = "known"
    """What the head needs of the training records."""
    settings: ClassVar[frozenset[str]] = frozenset({"column"})
    """Settings of a task that some types do not read, and this one does."""
    options: ClassVar[Mapping[str, Any]] = {}
    """Settings of a task type of another distribution, under ``options`` of a task, with their defaults."""
    example_cells: ClassVar[Sequence[Any]] = ()
    """Cells that can be learned from, for ``check_task_type``."""

    has_column: ClassVar[bool] = True
    """Whether a column of the table holds its labels; else it learns from its inputs, two in number."""
    has_labels: ClassVar[bool] = False
    """Whether a cell holds labels, of which a head learns a list; spelling is checked then."""
    has_several_labels: ClassVar[bool] = False
    """Whether a cell holds any number of labels, with ; between them."""
    is_open: ClassVar[bool] = False
    """Whether labels that training did not have are as good as others."""

    @property
    def is_classification(self) -> bool:
        """True where each record has one of a list of classes, by which records can be drawn, split and compared."""
        return self.has_labels and not self.has_several_labels and not self.is_open

    # --- rules of a job

    def task_problems(self, task: "Task") -> Iterator[str]:
        """Problems of a task's settings."""
        for key in task.options:
            if key not in self.options:
                hint = nearest_hint(key, self.options) if self.options else f"; {self.name} has none"
                yield f"options: unknown key {key!r}{hint}"

    def job_problems(self, job: "Job", name: str) -> Iterator[str]:
        """Parts of the job that do not suit a task of this type."""
        yield from ()

    # --- labels

    def read_cell(self, value: Any) -> tuple[Any, ...]:
        """Labels or numbers of a cell, which can be compared; empty where it is not known.

        Raises:
            UnreadableValueError: if the cell cannot be used.
        """
        return () if is_missing(value) else (class_label(value),)

    def check_learnable(self, counts: Mapping[Any, int]) -> None:
        """Refuses labels or numbers, with how many records have each, of which nothing can be learned.

        Raises:
            ValueError: says why; begins with "has".
        """
        fewest = 2 if self.learns_from == "different" else 1
        if len(counts) < fewest:
            found = ", ".join(map(repr, sorted(counts))) or "none"
            raise ValueError(f"has {len(counts)} distinct labels ({found}); {self.name} needs at least {fewest}")

    def count(self, cells: Sequence[Any]) -> Counter[Any]:
        """Records that have each label or number."""
        return Counter(label for cell in cells for label in self.read_cell(cell))

    def head_arguments(self, task: "Task", cells: Sequence[Any]) -> dict[str, Any]:
        """JSON arguments of the head, from the training records; ``labels`` are those of ``target``.

        Args:
            cells: of the column (of a type without one: the cells of both inputs, as tuples), usable all of them.

        Raises:
            ValueError: as ``check_learnable``.
        """
        counts = self.count(cells)
        self.check_learnable(counts)
        return {"labels": sorted(counts)} if self.has_labels else {}

    def target(self, columns: Sequence[str], arguments: Mapping[str, Any]) -> TargetReader:
        """Reader of targets, from the task's column (without one: those of its inputs) and the head's arguments."""
        return ClassTarget(columns[0], tuple(arguments["labels"]), open_set=self.is_open)

    # --- head and decoding

    def head_of(self, task: "Task") -> str:
        """``module:class`` of a task's head."""
        return self.head

    def configured(self, decoding: Decoding, task: "Task") -> Decoding:
        """The decoding with what may be changed in the config of a finished run."""
        return decoding

    def with_thresholds(self, decoding: Decoding, task: "Task", scores: np.ndarray, targets: np.ndarray) -> Decoding:
        """The decoding with thresholds that are fitted to validation records, where the task asks for it.

        Args:
            scores: of the decoding, [n c].
            targets: as metrics take them.
        """
        return decoding

    def all_options(self, task: "Task") -> dict[str, Any]:
        """A task's ``options`` with the defaults of those that it leaves out."""
        return {**self.options, **task.options}
