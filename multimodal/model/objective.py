"""Losses beside those of the tasks: they see what the model said of a batch, and may learn, too."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from multimodal.data.dataset import Batch

if TYPE_CHECKING:
    from multimodal.model.model import ModelOutput, MultimodalModel


class StepContext(NamedTuple):
    """Tensors that an objective may look at."""

    model: "MultimodalModel"
    output: "ModelOutput"
    batch: Batch
    progress: float
    """Share of the phase's steps that were done before this one, 0 to 1."""


class Objective(nn.Module, ABC):
    """One loss of a part of a batch, in ``model.objectives`` while training; what it learns is not exported.

    Every parameter enters the loss in every step, times zero where a part of the batch has nothing for it: processes
    that train together wait for each other's gradients. What it only compares with (anchors, a teacher) is a buffer
    that is not persistent.
    """

    @abstractmethod
    def forward(self, seen: StepContext) -> Float[Tensor, ""]:
        """The loss, as it counts beside that of a task of weight 1; the step takes its mean over parts and
        processes."""

    def monitor(self) -> dict[str, float]:
        """Figures of the epoch for its line of the history, counted anew from here on; what they are counted in is a
        buffer, so that a resumed run has it."""
        return {}

    def report(self) -> dict[str, float]:
        """Numbers about what it learned, for the history."""
        return {}


def reports(model: "MultimodalModel") -> dict[str, dict[str, float]]:
    """Name -> what the objective has to say, of those that say something."""
    said = {
        name: objective.report() for name, objective in model.objectives.items() if isinstance(objective, Objective)
    }
    return {name: numbers for name, numbers in said.items() if numbers}


def objective_loss(seen: StepContext) -> Float[Tensor, ""]:
    """Sum of all objectives of the model."""
    total = seen.output.fused.sum() * 0.0
    for objective in seen.model.objectives.values():
        total = total + objective(seen)
    return total


def monitored(model: "MultimodalModel") -> dict[str, float]:
    """Figures of all objectives of the model."""
    objectives = [module for module in model.objectives.values() if isinstance(module, Objective)]
    return {name: value for objective in objectives for name, value in objective.monitor().items()}
