"""Contrastive: two inputs of a record that find each other, without labels. Never imports torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from multimodal.metrics import Metrics
from multimodal.metrics.task_metrics import matching_metrics
from multimodal.records import is_missing
from multimodal.records.targets import PairTarget, TargetReader
from multimodal.task_types.base import Metric, TaskType
from multimodal.task_types.decoding import Decoding, Prediction


@dataclass(frozen=True)
class PairedEmbeddings(Decoding):
    """Two inputs' embeddings of length 1, side by side.

    >>> PairedEmbeddings(("image", "text")).split(np.array([[1.0, 0.0, 0.0, 1.0]]))
    (array([[1., 0.]]), array([[0., 1.]]))
    """

    inputs: tuple[str, str]
    kind: ClassVar[str] = "paired_embeddings"
    headline: ClassVar[str] = "top1"
    is_served: ClassVar[bool] = False

    @property
    def needs(self) -> tuple[str, ...]:
        """Both inputs."""
        return self.inputs

    def split(self, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each input's embeddings ``[b d]``."""
        first, second = np.split(outputs, 2, axis=1)
        return first, second

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """The outputs ``[b 2d]`` as they are."""
        return outputs

    def predictions(self, outputs: np.ndarray) -> list[Prediction]:
        """Both embeddings of each record, side by side."""
        return [Prediction(embedding=row) for row in outputs]

    def metrics(self, scores: np.ndarray, targets: np.ndarray, unknown: Sequence[str]) -> Metrics:
        """Gives ``matching_metrics``."""
        return matching_metrics(*self.split(scores), targets)


class Contrastive(TaskType):
    """Two inputs that are compared; it serves training alone."""

    head = "multimodal.model.contrastive:ContrastiveHead"
    decoding = PairedEmbeddings
    metrics: ClassVar[Mapping[str, Metric]] = {"top1": Metric("two")}
    main_metric = "top1"
    learns_from = "two"
    settings = frozenset()
    example_cells = (("red", "a"), ("green", "b"), ("blue", "c"), (None, "d"))
    has_column = False

    def read_cell(self, value: Any) -> tuple[Any, ...]:
        """The same of every record that has both inputs."""
        return () if any(map(is_missing, value)) else ("both",)

    def check_learnable(self, counts: Mapping[Any, int]) -> None:
        """Refuses fewer than two pairs."""
        count = sum(counts.values())
        if count < 2:
            raise ValueError(f"has {count} records with both; {self.name} needs at least two")

    def target(self, columns: Sequence[str], arguments: Mapping[str, Any]) -> TargetReader:
        """Numbers for the content of both inputs."""
        first, second = columns
        return PairTarget((first, second))
