"""Heads of a job: what training records say of them, their targets and decodings."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from encoders.preprocessing import UnreadableValueError
from multimodal.config import Job, Task, errors_of
from multimodal.decoding import Decoding
from multimodal.model.heads import Head, HeadPlace, head_class
from multimodal.model.layers import TowerHead
from multimodal.records import RecordError, Records, class_label, is_missing
from multimodal.records.targets import TargetReader, class_counts

OnError = Literal["raise", "skip"]


def label_cells(name: str, task: Task, column: str, records: Records, on_error: OnError = "raise") -> list[Any]:
    """The cells of a task's column; with ``on_error="skip"`` one that cannot be used counts as empty.

    Raises:
        RecordError: for the first cell that cannot be used, with its place.
    """
    cells = []
    for row, record in enumerate(records.rows):
        cell = record.get(column)
        try:
            task.kind.read_cell(cell)
        except UnreadableValueError as error:
            if on_error == "raise":
                raise RecordError(row, name, f"{records.place(row, column)}: {error}") from error
            cell = None
        cells.append(cell)
    return cells


def head_arguments(job: Job, name: str, records: Records, beside: Sequence[Records] = ()) -> dict[str, Any]:
    """JSON arguments of a task's head, as the training records have it: labels, class weights, mean and deviation.

    Args:
        beside: other tables that the task is learned from; its labels are those of all.

    Raises:
        ConfigError: if the records hold too little to learn the task from.
        RecordError: as ``label_cells``.
    """
    column, task = job.task_column(name), job.tasks[name]
    place = f"column {column!r} of {records.source}"
    if column is None:
        columns = target_columns(job, name)
        cells: list[Any] = [tuple(row.get(entry) for entry in columns) for row in records.rows]
        place = f"{records.source} with the columns {' and '.join(columns)}"
    else:
        tables = (records, *beside)
        cells = [cell for table in tables for cell in label_cells(name, task, column, table, job.data.on_error)]
    with errors_of(f"tasks.{name}: {place} "):
        return task.kind.head_arguments(task, cells)


def target_columns(job: Job, name: str) -> list[str]:
    """The column of a task; of one without, those of its inputs."""
    column = job.task_column(name)
    return [job.input_column(entry) for entry in job.task_inputs(name)] if column is None else [column]


def build_head(path: str, place: HeadPlace, arguments: Mapping[str, Any], *, tower: Sequence[int] = ()) -> Head:
    """A head of the class at ``path`` from what ``head_arguments`` gave, over a tower of these dimensions, if any."""
    if not tower:
        return head_class(path).build(place, **arguments)
    return TowerHead(place.dim, tower, head_class(path).build(replace(place, dim=tower[-1]), **arguments))


def build_decodings(job: Job, decodings: Mapping[str, Decoding]) -> dict[str, Decoding]:
    """The heads' decodings, with what the task description says of predictions."""
    tasks = job.tasks
    return {name: tasks[name].kind.configured(decoding, tasks[name]) for name, decoding in decodings.items()}


def build_target_reader(job: Job, name: str, arguments: Mapping[str, Any]) -> TargetReader:
    """Reader of a task's targets, from what ``head_arguments`` gave."""
    return job.tasks[name].kind.target(target_columns(job, name), arguments)


def sampling_weights(job: Job, records: Records) -> np.ndarray | None:
    """Frequency of each row, for the task that wants a balanced sampler; rows without its label as the mean."""
    for name, task in job.tasks.items():
        if task.imbalance == "balanced_sampler":
            values = label_cells(name, task, job.label_columns()[name], records, job.data.on_error)
            counts = class_counts(values)
            weights = [np.nan if is_missing(value) else 1.0 / counts[class_label(value)] for value in values]
            return np.nan_to_num(np.array(weights), nan=float(np.nanmean(weights)))
    return None
