"""The one place where task losses are weighed and reduced."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from multimodal.data import Batch
from multimodal.model import ModelOutput, MultimodalModel


def known_counts(parts: Sequence[Batch], tasks: Sequence[str]) -> Float[Tensor, " tasks"]:
    """How many labels of each task are known in the parts of a step."""
    counts = [sum(int(batch.known[task].sum()) for batch in parts) for task in tasks]
    return torch.tensor(counts, dtype=torch.float32)


def combined_loss(
    model: MultimodalModel,
    output: ModelOutput,
    batch: Batch,
    weights: Mapping[str, float],
    counts: Float[Tensor, " tasks"],
) -> Float[Tensor, ""]:
    """Weighted sum over tasks of the mean loss of the known records, each divided by its null loss.

    Args:
        weights: task -> weight.
        counts: known labels of each task in the *whole* step, over all parts and processes, so that the sum
            of this loss over parts and processes is the loss of the step.
    """
    total = output.fused.sum() * 0.0  # every head enters the loss, whatever is known
    for (task, weight), count in zip(weights.items(), counts, strict=True):
        head = model.head(task)
        losses = head.loss(output.outputs[task], batch.targets[task])
        known = batch.known[task].to(losses.dtype)
        total = total + weight / head.null_loss * (losses * known).sum() / count.clamp_min(1.0)
    return total
