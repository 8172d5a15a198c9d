"""A task type of another's: one tag per word of one text, from its tokens ``[b l d]`` to outputs ``[b t c]``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal.metrics import Metrics
from multimodal.metrics.task_metrics import classification_metrics
from multimodal.model.heads import Head
from multimodal.records import is_missing
from multimodal.records.targets import TargetReader
from multimodal.task_types import PADDING, Decoding, Metric, Prediction, TaskType, is_real, register_task_type

NAME = "tests/tags"


@dataclass(frozen=True)
class TagsPrediction(Prediction):
    """Tags of one text."""

    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class TokenLabels(Decoding):
    """The most probable label of each token."""

    labels: tuple[str, ...]
    kind: ClassVar[str] = "token_labels"
    axes: ClassVar[tuple[str, ...]] = ("b", "t", "c")
    columns: ClassVar[Mapping[str, str]] = {"": "string"}
    schema: ClassVar[Mapping[str, Any]] = {"tags": {"type": "array", "items": {"type": "string"}}}
    headline: ClassVar[str] = "accuracy"

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        return outputs

    def predictions(self, outputs: np.ndarray) -> list[TagsPrediction]:
        best, real = outputs.argmax(axis=-1), is_real(outputs)
        return [
            TagsPrediction(tags=tuple(self.labels[index] for index in row[mask]))
            for row, mask in zip(best, real, strict=True)
        ]

    def metrics(self, scores: np.ndarray, targets: np.ndarray, unknown: Sequence[str]) -> Metrics:
        length = min(scores.shape[1], targets.shape[1])
        known = targets[:, :length] >= 0
        found = classification_metrics(scores[:, :length][known], targets[:, :length][known], self.labels, (), 0.0)
        return {"n": found["n"], "accuracy": found["accuracy"]}

    def cells(self, prediction: TagsPrediction) -> tuple[str, ...]:
        return (" ".join(prediction.tags),)

    def response(self, prediction: TagsPrediction) -> dict[str, Any]:
        return {"tags": list(prediction.tags)}


@dataclass(frozen=True)
class TagsTarget(TargetReader):
    """Indices of the tags, int64 [t]; -1 for one that training did not have."""

    column: str
    labels: tuple[str, ...]
    padding: ClassVar[float] = -1

    @property
    def placeholder(self) -> np.ndarray:
        return np.full(1, -1, np.int64)

    def read(self, row: Mapping[str, Any]) -> np.ndarray | None:
        places = {label: place for place, label in enumerate(self.labels)}
        cell = row.get(self.column)
        return None if is_missing(cell) else np.array([places.get(tag, -1) for tag in str(cell).split()], np.int64)


@register_task_type(NAME)
class TokenTags(TaskType):
    """A tag per word, with spaces between them."""

    head = "support.token_tags:TokenTagsHead"
    decoding = TokenLabels
    metrics: ClassVar[Mapping[str, Metric]] = {"accuracy": Metric()}
    main_metric = "accuracy"
    learns_from = "labelled"
    options: ClassVar[Mapping[str, Any]] = {"smoothing": 0.0}
    example_cells = ("color noun", "color shape noun", None, "noun")

    def read_cell(self, value: Any) -> tuple[Any, ...]:
        return () if is_missing(value) else tuple(str(value).split())

    def head_arguments(self, task: Any, cells: Sequence[Any]) -> dict[str, Any]:
        return {"labels": sorted(self.count(cells)), **self.all_options(task)}

    def target(self, columns: Sequence[str], arguments: Mapping[str, Any]) -> TargetReader:
        return TagsTarget(columns[0], tuple(arguments["labels"]))


class TokenTagsHead(Head):
    """A linear layer over each token."""

    sees = "tokens"

    def __init__(self, in_dims: Mapping[str, int], labels: Sequence[str], smoothing: float = 0.0) -> None:
        super().__init__()
        ((self.input, dim),) = in_dims.items()
        self.labels, self.smoothing = tuple(labels), smoothing
        self.num_outputs, self.chance_loss = len(self.labels), math.log(max(2, len(self.labels)))
        self.linear = nn.Linear(dim, self.num_outputs)

    def forward(self, tokens: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
        logits = self.linear(tokens[self.input]).float()  # [b t c]
        return torch.where(masks[self.input][:, :, None], logits, PADDING)

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        length = min(outputs.shape[1], target.shape[1])
        known = target[:, :length]
        losses = F.cross_entropy(
            outputs[:, :length].transpose(1, 2), known, ignore_index=-1, reduction="none",
            label_smoothing=self.smoothing,
        )  # fmt: skip
        return losses.sum(dim=1) / (known >= 0).sum(dim=1).clamp_min(1)

    def decoding(self) -> TokenLabels:
        return TokenLabels(self.labels)
