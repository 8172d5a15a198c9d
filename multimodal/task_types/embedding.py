"""Embedding: a vector, near for records of one label and far for others. Never imports torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from multimodal.metrics import Metrics, retrieval_metrics
from multimodal.task_types.base import Metric, TaskType
from multimodal.task_types.decoding import EMBEDDING, AgreementLimits, Decoding, Prediction

if TYPE_CHECKING:
    from multimodal.config import Job, Task


@dataclass(frozen=True)
class UnitVector(Decoding):
    """A vector of length 1.

    >>> UnitVector().predictions(np.array([[0.6, 0.8]]))[0].embedding
    array([0.6, 0.8])
    """

    kind: ClassVar[str] = "embedding"
    schema: ClassVar[Mapping[str, Any]] = {EMBEDDING: {"type": "array", "items": {"type": "number"}}}
    headline: ClassVar[str] = "recall_at_1"
    is_vector: ClassVar[bool] = True

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """The outputs ``[b c]`` as they are."""
        return outputs

    def predictions(self, outputs: np.ndarray) -> list[Prediction]:
        """The embedding of each record."""
        return [Prediction(embedding=row) for row in outputs]

    def metrics(self, scores: np.ndarray, targets: np.ndarray, unknown: Sequence[str]) -> Metrics:
        """Gives ``retrieval_metrics``."""
        return retrieval_metrics(scores, targets)

    def agree(self, actual: np.ndarray, expected: np.ndarray, limits: AgreementLimits) -> np.ndarray:
        """Mask of the records whose cosine is near 1, bool [b]."""
        return np.asarray((actual * expected).sum(axis=1) >= limits.cosine)  # both have length 1

    def response(self, prediction: Prediction) -> dict[str, Any]:
        """The vector."""
        assert prediction.embedding is not None
        return {EMBEDDING: prediction.embedding.tolist()}

    def shown(self, prediction: Prediction) -> tuple[str, str]:
        """Its size, and where to get it."""
        assert prediction.embedding is not None
        return f"(a vector of {len(prediction.embedding)} numbers: --data, --embeddings)", ""


class Embedding(TaskType):
    """A vector per record."""

    head = "multimodal.model.embedding_heads:EmbeddingHead"
    decoding = UnitVector
    metrics: ClassVar[Mapping[str, Metric]] = {
        "recall_at_1": Metric("alike"),
        "recall_at_5": Metric("alike"),
        "map": Metric("alike"),
    }
    main_metric = "map"
    learns_from = "different"
    settings = frozenset(
        ("column", "tower", "imbalance", "width", "loss", "margin", "temperature", "records_per_label")
    )
    example_cells = ("apple", "pear", "apple", "pear")
    has_labels = True
    is_open = True

    def task_problems(self, task: "Task") -> Iterator[str]:
        """Ways to even out rare labels that the losses do not know."""
        yield from super().task_problems(task)
        if task.imbalance == "class_weights":
            yield "an embedding task has no class weights: leave class_weights out (balanced_sampler may be set)"
        if task.records_per_label is not None and task.imbalance == "balanced_sampler":
            yield "records_per_label and balanced_sampler both say which records are drawn: leave one out"

    def job_problems(self, job: "Job", name: str) -> Iterator[str]:
        """A fusion that gives no one vector."""
        if job.fusion.name == "late":
            yield (
                f"tasks.{name}: an embedding task needs one vector of all inputs, and late fusion keeps them "
                "apart; set fusion.name: attention, gated or concat"
            )

    def head_arguments(self, task: "Task", cells: Sequence[Any]) -> dict[str, Any]:
        """Labels, and the loss."""
        arguments = super().head_arguments(task, cells) | {key: getattr(task, key) for key in ("loss", "width")}
        if task.loss == "arcface":
            arguments["margin"] = task.margin
        return arguments if task.temperature is None else arguments | {"temperature": task.temperature}
