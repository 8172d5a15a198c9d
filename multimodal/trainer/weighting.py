"""Weights of the tasks, where they are learned."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from multimodal.model import MultimodalModel
from multimodal.model.objective import Objective, StepContext
from multimodal.transfer.multitask import UncertaintyWeighting

TASK_WEIGHT = "task_weight"
"""Name among ``model.objectives``, and the beginning of its columns of the history."""


class LearnedTaskWeights(Objective):
    """Uncertainty weighting (Kendall et al., 2018, https://arxiv.org/abs/1705.07115) of the tasks' losses.

    A task of weight w counts as w (exp(-s) L / 2 + s / 2): ``weights`` are the factors on the losses, this loss is
    what remains. What a task's auxiliary heads lose is part of its L; other objectives keep their own strengths.

    When not to use: see ``UncertaintyWeighting``.

    Args:
        weights: task -> weight, as it was set.
    """

    fixed: Float[Tensor, " t"]

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.tasks = tuple(weights)
        self.uncertainty = UncertaintyWeighting(len(weights))
        self.register_buffer("fixed", torch.tensor(list(weights.values())), persistent=False)

    def forward(self, seen: StepContext) -> Float[Tensor, ""]:
        """Keeps the weights from falling to zero; may be negative."""
        return (self.fixed * self.uncertainty.logs()).sum() / 2

    def weights(self) -> dict[str, Float[Tensor, ""]]:
        """Task -> factor on its loss, with its gradient."""
        return dict(zip(self.tasks, self.fixed * self.uncertainty.factors(), strict=True))

    def report(self) -> dict[str, float]:
        """Task -> factor on its loss."""
        return {task: float(weight.detach()) for task, weight in self.weights().items()}


def loss_weights(model: MultimodalModel, fixed: Mapping[str, float]) -> Mapping[str, float | Float[Tensor, ""]]:
    """Task -> factor on its loss: the learned ones where the model has any, else those that were set."""
    if TASK_WEIGHT not in model.objectives:
        return fixed
    learned = model.objectives[TASK_WEIGHT]
    assert isinstance(learned, LearnedTaskWeights)
    return learned.weights()
