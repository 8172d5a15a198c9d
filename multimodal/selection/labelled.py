"""Labelled records of a job, and whether its model is right about each, as paired comparisons read them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from multimodal.builders.heads import label_cells
from multimodal.config import Data, Task
from multimodal.evaluation import answer
from multimodal.job import TrainingSetup
from multimodal.records import Records
from multimodal.records.targets import NumberTarget, TargetReader, Truth, class_readers, read_truth
from multimodal.splits.groups import record_groups
from multimodal.transfer.folds import most_folds
from multimodal.transfer.guard.arms import sample_rows

FEWEST_NUMBERS = 5


@dataclass(frozen=True, eq=False)
class LabelledRecords:
    """Records of a table whose class is known."""

    rows: np.ndarray
    """Rows (from 0), in order."""
    classes: np.ndarray
    """Of each, int [n]."""
    groups: np.ndarray | None
    """Of each, int [n]; None where no column says what belongs together."""
    numbers: np.ndarray | None = None
    """Of each, [n], where the task is one of numbers; its classes are parts of their order, such as fifths."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, kept: np.ndarray) -> "LabelledRecords":
        """Some of them, by place or by mask."""
        groups = None if self.groups is None else self.groups[kept]
        numbers = None if self.numbers is None else self.numbers[kept]
        return LabelledRecords(self.rows[kept], self.classes[kept], groups, numbers)

    def sample(self, most: int, seed: int) -> "LabelledRecords":
        """At most so many of them, in the same shares of the classes."""
        return self.take(sample_rows(self.classes, most, seed=seed))

    @property
    def reason(self) -> str | None:
        """Reason why nothing can be held out of them; None where it can."""
        if len(self) == 0 or most_folds(self.classes, self.groups) < 2:
            of_groups = "" if self.groups is None else " of two groups"
            return f"no class has two records{of_groups}, so that none can be held out"
        if self.numbers is not None and (len(self) < FEWEST_NUMBERS or np.ptp(self.numbers) == 0):
            return f"a regression takes {FEWEST_NUMBERS} records whose numbers are not all equal"
        return None


def labelled_records(
    tasks: Mapping[str, Task],
    targets: Mapping[str, TargetReader],
    records: Records,
    data: Data,
    *,
    numbers: bool = False,
) -> dict[str, LabelledRecords]:
    """Labelled records of every classification task that has a reader.

    Args:
        numbers: also those of regressions.
        data: of which ``group`` and ``on_error`` count here.

    Raises:
        RecordError: for a label or a group that cannot be used.
    """
    groups = record_groups(records, data.group)
    found = {}
    read = {name: target for name, target in targets.items() if numbers and isinstance(target, NumberTarget)}
    for name, target in (class_readers(targets) | read).items():
        texts = label_cells(name, tasks[name], target.column, records, data.on_error)
        cells = [target.read({target.column: value}) for value in texts]
        rows = np.array([row for row, cell in enumerate(cells) if cell is not None], dtype=np.int64)
        values = np.array([cell for cell in cells if cell is not None], dtype=np.float64)
        chosen = None if groups is None else groups[rows]
        if isinstance(target, NumberTarget):
            found[name] = LabelledRecords(rows, number_strata(values), chosen, values)
        else:
            found[name] = LabelledRecords(rows, values.astype(np.int64), chosen)
    return found


def number_strata(values: np.ndarray) -> np.ndarray:
    """Fifth of the order that each value is in, int [n]; of fewer than 25, coarser parts of five and more."""
    parts = max(1, min(5, len(values) // 5))
    ends = np.quantile(values, np.arange(1, parts) / parts) if parts > 1 else np.zeros(0)
    return ends.searchsorted(values)


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
