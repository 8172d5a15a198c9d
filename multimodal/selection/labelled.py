"""Labelled records of a job, and whether its model is right about each, as paired comparisons read them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from multimodal.builders import label_cells
from multimodal.config import Data, Task
from multimodal.evaluation import answer
from multimodal.job import TrainingSetup
from multimodal.records import Records
from multimodal.records.targets import TargetReader, Truth, class_readers, read_truth
from multimodal.splits.groups import record_groups
from multimodal.transfer.folds import most_folds
from multimodal.transfer.guard.arms import sample_rows


@dataclass(frozen=True, eq=False)
class LabelledRecords:
    """Records of a table whose class is known."""

    rows: np.ndarray
    """Rows (from 0), in order."""
    classes: np.ndarray
    """Of each, int [n]."""
    groups: np.ndarray | None
    """Of each, int [n]; None where no column says what belongs together."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, kept: np.ndarray) -> "LabelledRecords":
        """Some of them, by place or by mask."""
        groups = None if self.groups is None else self.groups[kept]
        return LabelledRecords(self.rows[kept], self.classes[kept], groups)

    def sample(self, most: int, seed: int) -> "LabelledRecords":
        """At most so many of them, in the same shares of the classes."""
        return self.take(sample_rows(self.classes, most, seed=seed))

    @property
    def reason(self) -> str | None:
        """Reason why nothing can be held out of them; None where it can."""
        if len(self) == 0 or most_folds(self.classes, self.groups) < 2:
            of_groups = "" if self.groups is None else " of two groups"
            return f"no class has two records{of_groups}, so that none can be held out"
        return None


def labelled_records(
    tasks: Mapping[str, Task], targets: Mapping[str, TargetReader], records: Records, data: Data
) -> dict[str, LabelledRecords]:
    """Labelled records of every classification task that has a reader.

    Args:
        data: of which ``group`` and ``on_error`` count here.

    Raises:
        RecordError: for a label or a group that cannot be used.
    """
    groups = record_groups(records, data.group)
    found = {}
    for name, target in class_readers(targets).items():
        values = label_cells(name, tasks[name], target.column, records, data.on_error)
        cells = [target.read({target.column: value}) for value in values]
        rows = np.array([row for row, cell in enumerate(cells) if cell is not None], dtype=np.int64)
        classes = np.array([int(cell) for cell in cells if cell is not None], dtype=np.int64)
        found[name] = LabelledRecords(rows, classes, None if groups is None else groups[rows])
    return found


def correct_predictions(
    setup: TrainingSetup, records: Records, tasks: Iterable[str]
) -> dict[str, tuple[Truth, np.ndarray]]:
    """Classification task -> the known answers of the records that can be read, and 1 where the model is right [n]."""
    data, shown = setup.datasets.evaluation(records), setup.model.input_names
    found = answer(setup.model, data, subsets=[shown], workers=setup.datasets.workers)
    places, correct = {int(row): place for place, row in enumerate(found.rows)}, {}
    for name in tasks:
        truth = read_truth(data.targets[name], data.records, found.rows.tolist())
        outputs = found.outputs[shown][name][[places[int(row)] for row in truth.rows]]
        correct[name] = truth, (outputs.argmax(axis=1) == truth.targets).astype(np.float64)
    return correct
