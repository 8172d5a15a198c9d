"""Classification: exactly one of several classes. Never imports torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from multimodal.metrics import Metrics
from multimodal.metrics.class_tables import classification_table
from multimodal.metrics.task_metrics import classification_metrics, positive_metrics
from multimodal.metrics.thresholds import best_threshold
from multimodal.records.targets import balanced_weights
from multimodal.task_types.base import Metric, TaskType
from multimodal.task_types.decoding import (
    PROBABILITY_COLUMNS,
    PROBABILITY_SCHEMA,
    AgreementLimits,
    Decoding,
    Prediction,
    ProbabilityDecoding,
)

if TYPE_CHECKING:
    from multimodal.config import Job, Task


@dataclass(frozen=True)
class Softmax(ProbabilityDecoding):
    """Exactly one of several classes.

    >>> Softmax(("apple", "pear")).predictions(np.array([[2.0, 0.0]]))[0].label
    'apple'
    """

    labels: tuple[str, ...]
    temperature: float = 1.0
    """Divides the logits; above 1 makes probabilities smaller."""
    min_probability: float = 0.0
    """Of the class; a record with less gets no label."""
    positive: str = ""
    """One of two classes, which is given from a probability of ``threshold`` on; empty: the most probable is given."""
    threshold: float = 0.5
    kind: ClassVar[str] = "softmax"
    columns: ClassVar[Mapping[str, str]] = PROBABILITY_COLUMNS
    schema: ClassVar[Mapping[str, Any]] = {"label": {"type": ["string", "null"]}, **PROBABILITY_SCHEMA}
    headline: ClassVar[str] = "accuracy"

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """Probabilities ``[b c]`` that sum to one."""
        scaled = outputs.astype(np.float64) / self.temperature
        exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def predictions(self, outputs: np.ndarray) -> list[Prediction]:
        """The class of each record, where it is probable enough."""
        scores, found = self.scores(outputs), []
        for row, best in zip(scores, self.chosen(scores).tolist(), strict=True):
            label = self.labels[best] if row[best] >= self.min_probability else None
            probabilities = dict(zip(self.labels, row.tolist(), strict=True))
            found.append(Prediction(label, probability=float(row[best]), probabilities=probabilities))
        return found

    def chosen(self, scores: np.ndarray) -> np.ndarray:
        """Index of each record's class, int [b], from probabilities [b c]: the most probable, or by the threshold."""
        if not self.positive:
            return np.asarray(scores.argmax(axis=1))
        positive = self.labels.index(self.positive)
        return np.where(scores[:, positive] >= self.threshold, positive, 1 - positive)

    def metrics(self, scores: np.ndarray, targets: np.ndarray, unknown: Sequence[str]) -> Metrics:
        """Gives ``classification_metrics``."""
        chosen = self.chosen(scores)
        found = classification_metrics(scores, targets, self.labels, unknown, self.min_probability, chosen)
        if len(self.labels) != 2:
            return found
        index = self.labels.index(self.positive) if self.positive else 1
        own = positive_metrics(scores[:, index], chosen == index, targets == index)
        return found | {"positive": self.labels[index]} | own

    def details(self, scores: np.ndarray, targets: np.ndarray, unknown: Sequence[str]) -> dict[str, Any]:
        """Gives ``classification_table``."""
        return classification_table(targets, self.chosen(scores), (*self.labels, *unknown))

    def agree(self, actual: np.ndarray, expected: np.ndarray, limits: AgreementLimits) -> np.ndarray:
        """Mask of the records of the same class, bool [b]."""
        return np.asarray(self.chosen(self.scores(actual)) == self.chosen(self.scores(expected)))

    def cells(self, prediction: Prediction) -> tuple[str | float | None, ...]:
        """Class and probability; the class is empty where it is not probable enough."""
        return prediction.label or "", prediction.probability

    def shown(self, prediction: Prediction) -> tuple[str, str]:
        """Class and probability."""
        return prediction.label or "(no answer)", f"{prediction.probability:.4f}"

    def rules(self) -> Iterator[str]:
        """The threshold of the positive class."""
        if self.positive:
            yield f"{self.positive} from a probability of {self.threshold:.3g} on"

    def explained(self, scores: np.ndarray) -> tuple[int, str | None] | None:
        """The class that the record is given."""
        chosen = int(self.chosen(scores[None])[0])
        return chosen, self.labels[chosen]

    def others(self, scores: np.ndarray, column: int) -> np.ndarray:
        """Sum of the other classes' probabilities, which keeps its digits."""
        return np.delete(scores, column, axis=1).sum(axis=1)

    def known(self, targets: np.ndarray) -> np.ndarray:
        """Records whose class training had, bool [b]."""
        return np.asarray(targets < len(self.labels))

    def truth(self, targets: np.ndarray) -> np.ndarray:
        """One of the classes, bool [b c]."""
        return np.asarray(targets[:, None] == np.arange(len(self.labels)))

    def statements(self, scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The probability of the predicted class."""
        known, chosen = self.known(targets), self.chosen(scores)
        right = scores[known, targets[known].astype(np.int64)]
        return scores[np.arange(len(scores)), chosen], chosen == targets, right

    @property
    def statements_per_record(self) -> int:
        """One."""
        return 1


class Classification(TaskType):
    """One class per record."""

    head = "multimodal.model.heads:ClassificationHead"
    decoding = Softmax
    metrics: ClassVar[Mapping[str, Metric]] = {
        "accuracy": Metric(),
        "balanced_accuracy": Metric(),
        "macro_f1": Metric(),
        "auc": Metric("different"),
        "average_precision": Metric("different"),
        "f1": Metric("different"),
    }
    main_metric = "accuracy"
    learns_from = "different"
    settings = frozenset(
        ("column", "tower", "label_smoothing", "imbalance", "head", "min_probability", "threshold", "positive", "costs")
    )
    example_cells = ("apple", "pear", "apple", "pear")  # of two classes, which alone have an F1
    has_labels = True

    def task_problems(self, task: "Task") -> Iterator[str]:
        """Two rules for when a class is given."""
        yield from super().task_problems(task)
        if task.min_probability and task.threshold != 0.5:
            yield "min_probability and threshold both say when a class is given; leave one of them out"

    def job_problems(self, job: "Job", name: str) -> Iterator[str]:
        """The F1 of a class that is not named."""
        if job.train.metric == f"{name}.f1" and job.tasks[name].positive is None:
            yield f"train.metric: {name}.f1 is that of one of two classes; name it with tasks.{name}.positive"

    def head_arguments(self, task: "Task", cells: Sequence[Any]) -> dict[str, Any]:
        """Classes, their frequencies and weights."""
        counts = self.count(cells)
        labels = sorted(counts) if task.zero_shot.labels is None else task.zero_shot.labels
        self.check_learnable(dict.fromkeys(labels, 1))
        _check_positive(task, labels)
        known = sum(counts.values())
        frequencies = [counts[label] / max(1, known) for label in labels]
        if task.head == "knn":
            return {"labels": labels, "frequencies": frequencies}
        arguments = label_arguments(task, labels, frequencies, [counts[label] for label in labels])
        return arguments | ({"logit_adjustment": True} if task.imbalance == "logit_adjustment" else {})

    def head_of(self, task: "Task") -> str:
        """The head that a task names."""
        return "multimodal.features.neighbours_head:NeighboursHead" if task.head == "knn" else self.head

    def configured(self, decoding: Decoding, task: "Task") -> Decoding:
        """With the smallest probability and the threshold of the config."""
        assert isinstance(decoding, Softmax)
        decoding = replace(decoding, min_probability=task.min_probability)
        if task.positive is None and task.threshold == 0.5:
            return replace(decoding, positive="", threshold=0.5)
        threshold = decoding.threshold if task.threshold == "auto" else task.threshold
        return replace(decoding, positive=task.positive or decoding.labels[1], threshold=threshold)

    def with_thresholds(self, decoding: Decoding, task: "Task", scores: np.ndarray, targets: np.ndarray) -> Decoding:
        """That of the positive class."""
        assert isinstance(decoding, Softmax)
        if task.threshold != "auto":
            return decoding
        positive = decoding.labels.index(decoding.positive)
        fitted = best_threshold(scores[:, positive], targets == positive, costs_of(task))
        return decoding if fitted is None else replace(decoding, threshold=fitted)


def costs_of(task: "Task") -> tuple[float, float] | None:
    """Costs of a false positive and a false negative, where the config says them."""
    return None if task.costs is None else (task.costs.false_positive, task.costs.false_negative)


def _check_positive(task: "Task", labels: Sequence[str]) -> None:
    if task.positive is None and task.threshold == 0.5:
        return
    if len(labels) != 2:
        raise ValueError(f"has {len(labels)} classes, and threshold and positive are for two; leave them out")
    if task.positive not in (None, *labels):
        raise ValueError(f"has no class {task.positive!r}, which positive names; there are {' and '.join(labels)}")


def label_arguments(
    task: "Task", labels: Sequence[str], frequencies: Sequence[float], counts: Sequence[int]
) -> dict[str, Any]:
    """Arguments of heads over labels: their names, smoothing, frequencies and weights."""
    if task.imbalance == "balanced_sampler" or not all(counts):
        frequencies = [1 / len(labels)] * len(labels)
    arguments: dict[str, Any] = {
        "labels": [*labels],
        "label_smoothing": task.label_smoothing,
        "frequencies": [*frequencies],
    }
    return arguments | ({"class_weights": balanced_weights(counts)} if task.imbalance == "class_weights" else {})
