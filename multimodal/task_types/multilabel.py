"""Multilabel: any number of labels per record. Never imports torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from multimodal.metrics import Metrics
from multimodal.metrics.class_tables import label_rows
from multimodal.metrics.task_metrics import multilabel_metrics
from multimodal.metrics.thresholds import best_threshold
from multimodal.records import is_missing, label_set
from multimodal.records.targets import LabelSetTarget, TargetReader
from multimodal.task_types.base import Metric, TaskType
from multimodal.task_types.classification import costs_of, label_arguments
from multimodal.task_types.decoding import (
    PROBABILITY_COLUMNS,
    PROBABILITY_SCHEMA,
    AgreementLimits,
    Decoding,
    Prediction,
    ProbabilityDecoding,
)

if TYPE_CHECKING:
    from multimodal.config import Task


@dataclass(frozen=True)
class Sigmoid(ProbabilityDecoding):
    """Any number of labels, each on its own.

    >>> Sigmoid(("new", "sale"), (0.5, 0.5)).predictions(np.array([[3.0, -3.0]]))[0].labels
    ('new',)
    """

    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    """Probability at which each label is given."""
    temperature: float = 1.0
    """Divides the logits; above 1 brings probabilities nearer to one half."""
    kind: ClassVar[str] = "sigmoid"
    columns: ClassVar[Mapping[str, str]] = PROBABILITY_COLUMNS
    schema: ClassVar[Mapping[str, Any]] = {
        "labels": {"type": "array", "items": {"type": "string"}},
        **PROBABILITY_SCHEMA,
    }
    headline: ClassVar[str] = "accuracy"

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """Probabilities ``[b c]``."""
        return 0.5 * (1.0 + np.tanh(0.5 * outputs.astype(np.float64) / self.temperature))  # does not overflow

    def given(self, outputs: np.ndarray) -> np.ndarray:
        """Labels that reach their thresholds, bool ``[b c]``."""
        return np.asarray(self.scores(outputs) >= np.asarray(self.thresholds))

    def predictions(self, outputs: np.ndarray) -> list[Prediction]:
        """The labels of each record that reach their thresholds."""
        found = []
        for row, given in zip(self.scores(outputs), self.given(outputs), strict=True):
            found.append(
                Prediction(
                    labels=tuple(self.labels[index] for index in np.flatnonzero(given)),
                    probability=float(row[given].min()) if given.any() else None,
                    probabilities=dict(zip(self.labels, row.tolist(), strict=True)),
                )
            )
        return found

    def metrics(self, scores: np.ndarray, targets: np.ndarray, unknown: Sequence[str]) -> Metrics:
        """Gives ``multilabel_metrics``."""
        return multilabel_metrics(scores, targets, self.labels, unknown, self.thresholds)

    def details(self, scores: np.ndarray, targets: np.ndarray, unknown: Sequence[str]) -> dict[str, Any]:
        """``classes``, as ``label_rows`` gives them; of an unknown label without answers."""
        truth = targets > 0.5  # [n c]
        given = np.zeros_like(truth)
        given[:, : len(self.labels)] = scores >= np.asarray(self.thresholds)
        counts = ((truth & given).sum(axis=0), truth.sum(axis=0), given.sum(axis=0))
        return {"classes": label_rows((*self.labels, *unknown), *counts)}

    def rules(self) -> Iterator[str]:
        """The thresholds of the labels."""
        for label, threshold in zip(self.labels, self.thresholds, strict=True):
            yield f"{label} from a probability of {threshold:.3g} on"

    def agree(self, actual: np.ndarray, expected: np.ndarray, limits: AgreementLimits) -> np.ndarray:
        """Mask of the records with the same labels, bool [b]."""
        return np.asarray((self.given(actual) == self.given(expected)).all(axis=1))

    def cells(self, prediction: Prediction) -> tuple[str | float | None, ...]:
        """Labels joined by ``;``, and the smallest of their probabilities."""
        return ";".join(prediction.labels), prediction.probability

    def response(self, prediction: Prediction) -> dict[str, Any]:
        """Labels and probabilities."""
        return {
            "labels": list(prediction.labels),
            "probability": prediction.probability,
            "probabilities": prediction.probabilities,
        }

    def shown(self, prediction: Prediction) -> tuple[str, str]:
        """Labels, and the smallest of their probabilities."""
        probability = prediction.probability
        return ";".join(prediction.labels), "" if probability is None else f"{probability:.4f}"

    def with_temperature(self, temperature: float) -> Self:
        """The decoding with another temperature, each threshold at the same logit.

        >>> Sigmoid(("new",), (0.8,)).with_temperature(2.0).thresholds  # 1 / (1 + 4 ** -0.5)
        (0.6666666666666666,)
        """
        ratio = self.temperature / temperature
        moved = tuple(1.0 / (1.0 + ((1.0 - share) / share) ** ratio) for share in self.thresholds)
        return replace(self, thresholds=moved, temperature=temperature)

    def known(self, targets: np.ndarray) -> np.ndarray:
        """All records, bool [b]."""
        return np.ones(len(targets), dtype=bool)

    def truth(self, targets: np.ndarray) -> np.ndarray:
        """Labels that a record has, bool [b c]."""
        return np.asarray(targets[:, : len(self.labels)] > 0.5)

    def statements(self, scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The probability of every label."""
        truth = self.truth(targets)
        return scores.ravel(), truth.ravel(), np.where(truth, scores, 1.0 - scores)

    @property
    def statements_per_record(self) -> int:
        """One per label."""
        return len(self.labels)


class Multilabel(TaskType):
    """Any number of labels per record, joined by ``;``."""

    head = "multimodal.model.heads:MultilabelHead"
    decoding = Sigmoid
    metrics: ClassVar[Mapping[str, Metric]] = {
        "accuracy": Metric(),
        "macro_f1": Metric("labelled"),
        "micro_f1": Metric("labelled"),
        "auc": Metric("different"),
        "average_precision": Metric("labelled"),
    }
    main_metric = "macro_f1"
    learns_from = "labelled"
    settings = frozenset(("column", "tower", "label_smoothing", "imbalance", "threshold", "costs"))
    example_cells = ("new;sale", "", "sale", "new")
    has_labels = True
    has_several_labels = True

    def task_problems(self, task: "Task") -> Iterator[str]:
        """Ways to even out rare labels that need one class per record."""
        yield from super().task_problems(task)
        if task.imbalance == "balanced_sampler":
            yield "balanced_sampler needs one class per record; use class_weights for a multilabel task"

    def read_cell(self, value: Any) -> tuple[Any, ...]:
        """The labels."""
        return () if is_missing(value) else label_set(value)

    def head_arguments(self, task: "Task", cells: Sequence[Any]) -> dict[str, Any]:
        """Labels, their frequencies and weights."""
        counts, known = self.count(cells), sum(not is_missing(cell) for cell in cells)
        self.check_learnable(counts)
        labels = sorted(counts)
        frequencies = [counts[label] / max(1, known) for label in labels]
        arguments = label_arguments(task, labels, frequencies, [counts[label] for label in labels])
        return arguments | {"threshold": 0.5 if task.threshold == "auto" else task.threshold}

    def with_thresholds(self, decoding: Decoding, task: "Task", scores: np.ndarray, targets: np.ndarray) -> Decoding:
        """One per label; of a label that no record has, as it was."""
        assert isinstance(decoding, Sigmoid)
        if task.threshold != "auto":
            return decoding
        fitted = (
            best_threshold(column, truth, costs_of(task))
            for column, truth in zip(scores.T, decoding.truth(targets).T, strict=True)
        )
        kept = zip(fitted, decoding.thresholds, strict=True)
        return replace(decoding, thresholds=tuple(old if new is None else new for new, old in kept))

    def target(self, columns: Sequence[str], arguments: Mapping[str, Any]) -> TargetReader:
        """Zeros and ones."""
        return LabelSetTarget(columns[0], tuple(arguments["labels"]))
