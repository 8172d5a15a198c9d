"""The one place where task losses are weighed and reduced."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from multimodal.data import Batch
from multimodal.heads import Head
from multimodal.late import LateHead
from multimodal.model import ModelOutput, MultimodalModel


class Term(NamedTuple):
    """One part of the loss: a task's, or that of its head over one input."""

    task: str
    input: str | None = None

    def known(self, batch: Batch) -> Bool[Tensor, " b"]:
        """Records that count: the label is known, and the one input is there."""
        known = batch.known[self.task]
        return known if self.input is None else known & batch.inputs[self.input]["present"]

    def head(self, model: MultimodalModel) -> Head:
        """What answers."""
        head = model.head(self.task)
        if self.input is None:
            return head
        return head.head(self.input) if isinstance(head, LateHead) else model.unimodal.head(self.task, self.input)

    def weight(self, model: MultimodalModel) -> float:
        """How much it counts beside the others of its task."""
        return model.unimodal.weight if self.input in model.unimodal.names.get(self.task, ()) else 1.0

    def outputs(self, output: ModelOutput) -> Float[Tensor, "b _c"]:
        """What it said."""
        return output.outputs[self.task] if self.input is None else output.unimodal[self.task][self.input]


def loss_terms(model: MultimodalModel, tasks: Sequence[str]) -> list[Term]:
    """The terms of these tasks: each task's own, then those of its auxiliary heads; of late fusion each head's."""
    terms: list[Term] = []
    for task in tasks:
        head = model.head(task)
        own = head.names if isinstance(head, LateHead) else (None, *model.unimodal.names.get(task, ()))
        terms += [Term(task, name) for name in own]
    return terms


def known_counts(parts: Sequence[Batch], terms: Sequence[Term]) -> Float[Tensor, " terms"]:
    """How many records count for each term, over the parts of a step."""
    counts = [sum(int(term.known(batch).sum()) for batch in parts) for term in terms]
    return torch.tensor(counts, dtype=torch.float32)


def combined_loss(
    model: MultimodalModel,
    output: ModelOutput,
    batch: Batch,
    weights: Mapping[str, float],
    counts: Float[Tensor, " terms"],
) -> Float[Tensor, ""]:
    """Weighted sum over terms of the mean loss of the records that count, each divided by its null loss.

    Args:
        weights: task -> weight, which each of its terms multiplies by its own.
        counts: records that count for each of ``loss_terms`` in the *whole* step, over all parts and processes, so
            that the sum of this loss over parts and processes is the loss of the step.
    """
    total = output.fused.sum() * 0.0  # every head enters the loss, whatever is known
    for term, count in zip(loss_terms(model, list(weights)), counts, strict=True):
        head = term.head(model)
        losses = head.loss(term.outputs(output), batch.targets[term.task])
        weight = weights[term.task] * term.weight(model)
        known = term.known(batch).to(losses.dtype)
        total = total + weight / head.null_loss * (losses * known).sum() / count.clamp_min(1.0)
    return total
