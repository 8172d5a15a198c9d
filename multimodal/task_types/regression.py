"""Regression: a number per record. Never imports torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from multimodal.metrics import Metrics
from multimodal.metrics.task_metrics import regression_metrics
from multimodal.records.targets import NumberTarget, TargetReader, mean_and_deviation, parse_number
from multimodal.task_types.base import Metric, TaskType
from multimodal.task_types.decoding import AgreementLimits, Decoding, Prediction

if TYPE_CHECKING:
    from multimodal.config import Task


@dataclass(frozen=True)
class Destandardize(Decoding):
    """A number, from its standardised value.

    >>> Destandardize(mean=10.0, std=2.0).predictions(np.array([[1.5]]))[0].value
    13.0
    """

    mean: float
    """Of the training targets, in the data's unit."""
    std: float
    """Of the training targets, in the data's unit."""
    unit: str = ""
    kind: ClassVar[str] = "destandardize"
    columns: ClassVar[Mapping[str, str]] = {"": "double"}
    schema: ClassVar[Mapping[str, Any]] = {"value": {"type": "number"}, "unit": {"type": "string"}}
    headline: ClassVar[str] = "r2"

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """Values ``[b 1]`` in the data's unit."""
        return outputs.astype(np.float64) * self.std + self.mean

    def predictions(self, outputs: np.ndarray) -> list[Prediction]:
        """The value of each record."""
        return [Prediction(value=float(row[0])) for row in self.scores(outputs)]

    def metrics(self, scores: np.ndarray, targets: np.ndarray, unknown: Sequence[str]) -> Metrics:
        """Gives ``regression_metrics``."""
        return regression_metrics(scores, targets)

    def agree(self, actual: np.ndarray, expected: np.ndarray, limits: AgreementLimits) -> np.ndarray:
        """Mask of the records with near values, bool [b]."""
        return np.asarray(np.abs(actual - expected).max(axis=1) <= limits.value)

    def cells(self, prediction: Prediction) -> tuple[str | float | None, ...]:
        """The value."""
        return (prediction.value,)

    def response(self, prediction: Prediction) -> dict[str, Any]:
        """The value and its unit."""
        return {"value": prediction.value, "unit": self.unit}

    def shown(self, prediction: Prediction) -> tuple[str, str]:
        """The value with its unit."""
        return f"{prediction.value:.6g} {self.unit}".strip(), ""

    def explained(self, scores: np.ndarray) -> tuple[int, str | None] | None:
        """The value."""
        return 0, None


class Regression(TaskType):
    """A number per record."""

    head = "multimodal.model.heads:RegressionHead"
    decoding = Destandardize
    metrics: ClassVar[Mapping[str, Metric]] = {
        "rmse": Metric(is_share=False, lower_is_better=True),
        "mae": Metric(is_share=False, lower_is_better=True),
        "r2": Metric("different", is_share=False),
    }
    main_metric = "r2"
    learns_from = "different"
    settings = frozenset(("column", "tower", "unit"))
    example_cells = (1.0, "2.5", 4, None)

    def read_cell(self, value: Any) -> tuple[Any, ...]:
        """The number."""
        number = parse_number(value)
        return () if number is None else (number,)

    def check_learnable(self, counts: Mapping[Any, int]) -> None:
        """Refuses numbers that do not differ, or of which no deviation can be computed."""
        mean_and_deviation([number for number, count in counts.items() for _ in range(count)])

    def head_arguments(self, task: "Task", cells: Sequence[Any]) -> dict[str, Any]:
        """Mean and deviation."""
        mean, deviation = mean_and_deviation([number for cell in cells for number in self.read_cell(cell)])
        return {"mean": mean, "std": deviation, "unit": task.unit}

    def target(self, columns: Sequence[str], arguments: Mapping[str, Any]) -> TargetReader:
        """The number."""
        return NumberTarget(columns[0])
