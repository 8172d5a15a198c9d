"""Heads of a job: what training records say of them, their targets and decodings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from encoders.preprocessing import UnreadableValueError
from multimodal.config import ConfigError, Job, Task
from multimodal.decoding import Decoding, Softmax
from multimodal.features.neighbours_head import NeighboursHead
from multimodal.model.embedding_heads import ArcFaceHead, EmbeddingHead, SupConHead
from multimodal.model.heads import ClassificationHead, Head, MultilabelHead, RegressionHead
from multimodal.model.layers import TowerHead
from multimodal.records import RecordError, Records, class_label, is_missing
from multimodal.records.targets import (
    ClassTarget,
    LabelSetTarget,
    NumberTarget,
    PairTarget,
    TargetReader,
    balanced_weights,
    class_counts,
    label_counts,
    mean_and_deviation,
    parse_number,
    read_labels,
)


def embedding_head(in_dim: int, *, labels: Sequence[str], loss: str, **arguments: Any) -> EmbeddingHead:
    """The head of an embedding task, by its loss."""
    if loss == "arcface":
        return ArcFaceHead(in_dim, num_labels=len(labels), **arguments)
    return SupConHead(in_dim, **arguments)


HEADS: dict[str, Callable[..., Head]] = {
    "classification": ClassificationHead,
    "multilabel": MultilabelHead,
    "regression": RegressionHead,
    "embedding": embedding_head,
    "knn": NeighboursHead,
}

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
            read_labels(cell, task.type)
        except UnreadableValueError as error:
            if on_error == "raise":
                raise RecordError(row, name, f"{records.place(row, column)}: {error}") from error
            cell = None
        cells.append(cell)
    return cells


def head_arguments(
    name: str,
    task: Task,
    column: str,
    records: Records,
    on_error: OnError = "raise",
    beside: Sequence[Records] = (),
) -> dict[str, Any]:
    """JSON arguments of a task's head, as the training records have it: labels, class weights, mean and deviation.

    Args:
        beside: other tables that the task is learned from; its labels are those of all.

    Raises:
        ConfigError: if the records hold too little to learn the task from.
        RecordError: as ``label_cells``.
    """
    values = [cell for table in (records, *beside) for cell in label_cells(name, task, column, table, on_error)]
    if task.type == "regression":
        numbers = [number for number in map(parse_number, values) if number is not None]
        try:
            mean, deviation = mean_and_deviation(numbers)
        except ValueError as error:
            raise ConfigError(f"tasks.{name}: column {column!r} of {records.source} {error}") from error
        return {"mean": mean, "std": deviation, "unit": task.unit}
    counts = label_counts(values) if task.type == "multilabel" else class_counts(values)
    labels = sorted(counts) if task.zero_shot.labels is None else task.zero_shot.labels
    fewest = 1 if task.type == "multilabel" else 2
    if len(labels) < fewest:
        raise ConfigError(
            f"tasks.{name}: column {column!r} of {records.source} has {len(labels)} distinct labels ({labels}); "
            f"{task.type} needs at least {fewest}"
        )
    if task.type == "embedding":
        return {"labels": labels, **_embedding_arguments(task)}
    known = sum(not is_missing(value) for value in values)
    if task.head == "knn":
        return {"labels": labels, "frequencies": [counts[label] / known for label in labels]}
    arguments: dict[str, Any] = {
        "labels": labels,
        "label_smoothing": task.label_smoothing,
        "frequencies": [counts[label] / max(1, known) for label in labels],
    }
    if task.imbalance == "balanced_sampler" or not all(counts[label] for label in labels):
        arguments["frequencies"] = [1 / len(labels)] * len(labels)
    if task.imbalance == "logit_adjustment":
        arguments["logit_adjustment"] = True
    if task.imbalance == "class_weights":
        arguments["class_weights"] = balanced_weights([counts[label] for label in labels])
    if task.type == "multilabel":
        arguments["threshold"] = task.threshold
    return arguments


def _embedding_arguments(task: Task) -> dict[str, Any]:
    arguments: dict[str, Any] = {"loss": task.loss, "width": task.width}
    if task.loss == "arcface":
        arguments["margin"] = task.margin
    return arguments if task.temperature is None else arguments | {"temperature": task.temperature}


def task_arguments(job: Job, name: str, records: Records, beside: Sequence[Records] = ()) -> dict[str, Any]:
    """As ``head_arguments``; a contrastive task's head has none, but needs records that have both of its inputs.

    Raises:
        ConfigError, RecordError: as ``head_arguments``.
    """
    column, task = job.task_column(name), job.tasks[name]
    if column is not None:
        return head_arguments(name, task, column, records, job.data.on_error, beside)
    count = _pair_target(job, name).count(records.rows)
    if count < 2:
        raise ConfigError(
            f"tasks.{name}: {count} records of {records.source} have both {' and '.join(job.task_inputs(name))}; a "
            "contrastive task needs at least two"
        )
    return {}


def build_head(kind: str, in_dim: int, arguments: Mapping[str, Any], *, tower: Sequence[int] = ()) -> Head:
    """A head from its type (or "knn") and what ``head_arguments`` gave, over a tower of these widths, if any."""
    if not tower:
        return HEADS[kind](in_dim, **arguments)
    return TowerHead(in_dim, tower, HEADS[kind](tower[-1], **arguments))


def build_decodings(job: Job, decodings: Mapping[str, Decoding]) -> dict[str, Decoding]:
    """The heads' decodings, with what the task description says of answers."""
    return {
        name: replace(decoding, min_probability=job.tasks[name].min_probability)
        if isinstance(decoding, Softmax)
        else decoding
        for name, decoding in decodings.items()
    }


def build_target_reader(job: Job, name: str, arguments: Mapping[str, Any]) -> TargetReader:
    """What reads a task's answers, from what ``task_arguments`` gave."""
    column, kind = job.task_column(name), job.tasks[name].type
    if column is None:
        return _pair_target(job, name)
    if kind == "regression":
        return NumberTarget(column)
    labels = tuple(arguments["labels"])
    if kind == "multilabel":
        return LabelSetTarget(column, labels)
    return ClassTarget(column, labels, open_set=kind == "embedding")


def _pair_target(job: Job, name: str) -> PairTarget:
    first, second = map(job.input_column, job.task_inputs(name))
    return PairTarget((first, second))


def sampling_weights(job: Job, records: Records) -> np.ndarray | None:
    """How often each row is drawn, for the task that wants a balanced sampler; rows without its label as the mean."""
    for name, task in job.tasks.items():
        if task.imbalance == "balanced_sampler":
            values = label_cells(name, task, job.label_columns()[name], records, job.data.on_error)
            counts = class_counts(values)
            weights = [np.nan if is_missing(value) else 1.0 / counts[class_label(value)] for value in values]
            return np.nan_to_num(np.array(weights), nan=float(np.nanmean(weights)))
    return None
