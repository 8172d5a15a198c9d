"""The one place where task losses are weighted and reduced."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from multimodal.data.dataset import Batch
from multimodal.model import ModelOutput, MultimodalModel
from multimodal.model.heads import Head
from multimodal.model.input_heads import LateHead


class Term(NamedTuple):
    """One part of the loss: a task's, or that of its head over one input."""

    task: str
    input: str | None = None

    def weights(self, batch: Batch) -> Float[Tensor, " b"]:
        """Weight of each record: its own where the label is known and the one input is there, else 0."""
        known = batch.known[self.task]
        return batch.weights * (known if self.input is None else known & batch.inputs[self.input]["present"])

    def head(self, model: MultimodalModel) -> Head:
        """Part that gives the outputs."""
        head = model.head(self.task)
        if self.input is None:
            return head
        return head.head(self.input) if isinstance(head, LateHead) else model.unimodal.head(self.task, self.input)

    def share(self, model: MultimodalModel) -> float:
        """Weight beside the others of its task."""
        return model.unimodal.weight if self.input in model.unimodal.names.get(self.task, ()) else 1.0

    def outputs(self, output: ModelOutput) -> Float[Tensor, "b _c"]:
        """Its outputs."""
        return output.outputs[self.task] if self.input is None else output.unimodal[self.task][self.input]


def loss_terms(model: MultimodalModel, tasks: Sequence[str]) -> list[Term]:
    """The terms of these tasks: each task's own, then those of its auxiliary heads; of late fusion each head's."""
    terms: list[Term] = []
    for task in tasks:
        head = model.head(task)
        own = head.names if isinstance(head, LateHead) else (None, *model.unimodal.names.get(task, ()))
        terms += [Term(task, name) for name in own]
    return terms


def loss_normalizers(parts: Sequence[Batch], terms: Sequence[Term]) -> Float[Tensor, " terms"]:
    """Sum of the weights of the records that count for each term, over the parts of a step."""
    return torch.stack([sum((term.weights(batch).sum() for batch in parts), torch.zeros(())) for term in terms])


def task_losses(
    model: MultimodalModel,
    output: ModelOutput,
    batch: Batch,
    tasks: Sequence[str],
    totals: Float[Tensor, " terms"],
) -> dict[str, Float[Tensor, ""]]:
    """Task -> sum over its terms of the mean loss of the records that count, each divided by its null loss.

    Args:
        totals: sum of the weights that count for each of ``loss_terms`` in the *whole* step, over all parts and
            processes, so that the sum of a loss over parts and processes is that of the step.
    """
    losses = {task: output.fused.sum() * 0.0 for task in tasks}  # every head enters the loss, whatever is known
    for term, total in zip(loss_terms(model, tasks), totals, strict=True):
        head = term.head(model)
        per_record = head.loss(term.outputs(output), batch.targets[term.task])
        mean = (per_record * term.weights(batch).to(per_record.dtype)).sum() / total.where(total > 0, 1.0)
        losses[term.task] = losses[term.task] + term.share(model) / head.chance_loss * mean
    return losses


def weighted_losses(
    losses: Mapping[str, Float[Tensor, ""]], weights: Mapping[str, float | Float[Tensor, ""]]
) -> dict[str, Float[Tensor, ""]]:
    """The tasks' losses, each times its task's weight."""
    return {task: weights[task] * loss for task, loss in losses.items()}


def combined_loss(
    losses: Mapping[str, Float[Tensor, ""]], weights: Mapping[str, float | Float[Tensor, ""]]
) -> Float[Tensor, ""]:
    """The one loss that is trained on: the sum of the weighted losses."""
    return torch.stack(list(weighted_losses(losses, weights).values())).sum()
