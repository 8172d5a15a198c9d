"""Gradients of single tasks on what they share: whether they agree, and PCGrad."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from multimodal.config import ConfigError
from multimodal.model import MultimodalModel
from multimodal.runtime.distributed import Processes
from multimodal.transfer.multitask import gradient_cosines, project_conflicts
from multimodal.transfer.plan import Phase, trained_names


def shared_modules(model: MultimodalModel) -> tuple[nn.Module, ...]:
    """Parameters that more than one task's loss may reach; heads, towers and auxiliary heads are of one task each."""
    return (model.encoders, model.layers, model.fusion)


def shared_parameters(model: MultimodalModel) -> list[nn.Parameter]:
    """Parameters among them that train now."""
    return [part for module in shared_modules(model) for part in module.parameters() if part.requires_grad]


def check_shared(model: MultimodalModel, phases: Sequence[Phase]) -> None:
    """Refuses to project gradients where no phase trains anything that tasks share.

    Raises:
        ConfigError: says so.
    """
    trained = trained_names(phases)
    shared = {id(part) for module in shared_modules(model) for part in module.parameters()}
    if not any(name in trained and id(part) in shared for name, part in model.named_parameters()):
        raise ConfigError(
            "train.task_weighting is pcgrad, but the tasks share nothing that trains: the encoders are frozen, and the "
            "fusion learns nothing; set train.task_weighting: fixed, or train an encoder or a fusion with dim"
        )


class TaskGradients:
    """Gradient of each task's weighted loss on the shared parameters, summed over the parts of one step.

    Legend: t tasks, p shared parameters.

    Args:
        parameters: the shared ones.
        tasks: in the order of the rows.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], tasks: Sequence[str]) -> None:
        self.parameters, self.tasks = list(parameters), list(tasks)
        device = self.parameters[0].device
        self.rows: Float[Tensor, "t p"] = torch.zeros(len(tasks), sum(p.numel() for p in parameters), device=device)

    def add(self, losses: Mapping[str, Float[Tensor, ""]]) -> None:
        """Adds those of one part's losses, whose graph is kept for the backward pass."""
        for row, task in zip(self.rows, self.tasks, strict=True):
            # not through .grad: the reducer of several processes listens there
            found = torch.autograd.grad(losses[task], self.parameters, retain_graph=True, allow_unused=True)
            parts = row.split([parameter.numel() for parameter in self.parameters])
            for part, gradient in zip(parts, found, strict=True):
                if gradient is not None:
                    part += gradient.flatten()

    def gather(self, processes: Processes) -> None:
        """Sums over all processes, each of which holds a part of the step."""
        processes.sum(self.rows)

    def take_out_conflicts(self, seed: int) -> None:
        """Changes the parameters' summed gradients by what ``project_conflicts`` changes.

        Args:
            seed: of the order of the projections; the same in all processes.
        """
        generator = torch.Generator().manual_seed(seed)
        change = project_conflicts(self.rows, generator=generator) - self.rows.sum(dim=0)
        for parameter, part in zip(self.parameters, change.split([p.numel() for p in self.parameters]), strict=True):
            assert parameter.grad is not None  # every parameter enters the loss
            parameter.grad += part.view_as(parameter)

    def cosines(self) -> dict[str, float]:
        """Pair "TASK.TASK" -> cosine of its gradients; left out where one of them is zero in this step."""
        found = gradient_cosines(self.rows)
        there = self.rows.isfinite().all(dim=1) & self.rows.any(dim=1)
        return {
            f"{self.tasks[i]}.{self.tasks[j]}": float(found[i, j])
            for i, j in combinations(range(len(self.tasks)), 2)
            if there[i] and there[j]
        }


COSINE = "gradient_cosine"
"""Begins the columns of the history: ``gradient_cosine.TASK.TASK``."""
FEWEST = 3
"""Epochs below which nothing is said."""
CLEARLY = -0.05
"""Mean cosine from which on a conflict is worth a line; gradients that have nothing to do with each other have 0."""


def summarise_cosines(history: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """ "TASK.TASK" -> mean over the epochs, its standard error (None for one epoch) and the number of epochs.

    >>> summarise_cosines([{"gradient_cosine.a.b": 0.5}, {"loss": 1.0}, {"gradient_cosine.a.b": 0.0}])
    {'a.b': {'mean': 0.25, 'error': 0.25, 'epochs': 2}}
    """
    pairs = dict.fromkeys(key for entry in history for key in entry if key.startswith(f"{COSINE}."))
    summary: dict[str, dict[str, float | None]] = {}
    for pair in pairs:
        values = np.array([entry[pair] for entry in history if pair in entry])
        error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
        summary[pair.removeprefix(f"{COSINE}.")] = {"mean": float(values.mean()), "error": error, "epochs": len(values)}
    return summary


def conflict_lines(summary: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """One line for each two tasks whose mean cosine is clearly below zero, with what to try.

    >>> conflict_lines({"a.b": {"mean": -0.2, "error": 0.01, "epochs": 5}})[0][:73]
    'a and b pull what they share in opposite directions: mean gradient cosine'
    >>> conflict_lines({"a.b": {"mean": -0.2, "error": 0.3, "epochs": 5}})
    []
    """
    lines = []
    for pair, found in summary.items():
        mean, error, epochs = found["mean"], found["error"], found["epochs"]
        if mean is None or error is None or epochs is None or epochs < FEWEST:
            continue
        if mean < CLEARLY and mean + 2 * error < 0:
            first, _, second = pair.partition(".")
            lines.append(
                f"{first} and {second} pull what they share in opposite directions: mean gradient cosine {mean:.2f} "
                f"over {epochs} epochs; try train.task_weighting: pcgrad, a tower of their own "
                f"(tasks.{first}.tower: [128]), or a job each"
            )
    return lines
