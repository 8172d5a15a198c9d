"""Minimum class confusion: answers to a batch of target records should not mix classes."""

import torch
from jaxtyping import Float
from torch import Tensor

from multimodal.transfer.adaptation.entropy import entropies


def mcc_loss(logits: Float[Tensor, "b c"], *, temperature: float = 2.5) -> Float[Tensor, ""]:
    """Share of each class's answers that goes to other classes, mean over classes; 0 to 1 - 1/c.

    Jin et al. (2020, https://arxiv.org/abs/1912.03699): answers at a temperature, weighted by 1 + exp(-entropy)
    (detached, mean 1), their confusion normalised a class.

    When not to use: with batches of fewer than two or three times the number of classes: a class that the batch
    lacks counts as wholly confused, so that right answers are driven towards it.

    Args:
        logits: of target records.
        temperature: 2.5 in the paper.

    Raises:
        ValueError: if the temperature is not above zero.
    """
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}; give a number above 0, the paper's is 2.5")
    scaled = logits / temperature
    probabilities = scaled.softmax(dim=1)  # [b c]
    weights = 1.0 + (-entropies(scaled.detach())).exp()
    weights = weights / weights.mean()
    confusion = (probabilities * weights[:, None]).T @ probabilities  # [c c]
    confusion = confusion / confusion.sum(dim=1, keepdim=True).clamp_min(torch.finfo(confusion.dtype).tiny)
    return (confusion.sum() - confusion.diagonal().sum()) / logits.shape[1]
