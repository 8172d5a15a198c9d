"""Losses on the model's own predictions for target records: entropy, class confusion, pseudo-labels."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def entropies(logits: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """Entropy of each record's prediction, in nats."""
    logs = logits.log_softmax(dim=1)
    return -(logs.exp() * logs).sum(dim=1)


def entropy_loss(logits: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """Mean entropy of the predictions for unlabelled records.

    Grandvalet and Bengio (2004, Semi-supervised learning by entropy minimization).

    When not to use: alone, or early, or where the source classifier is mostly wrong on the target: one class
    for every record is its minimum, and wrong predictions become confident.
    """
    return entropies(logits).mean()


def mcc_loss(logits: Float[Tensor, "b c"], *, temperature: float = 2.5) -> Float[Tensor, ""]:
    """Share of each class's predictions that goes to other classes, mean over classes; 0 to 1 - 1/c.

    Jin et al. (2020, https://arxiv.org/abs/1912.03699): predictions at a temperature, weighted by
    1 + exp(-entropy) (detached, mean 1), their confusion normalised per class.

    When not to use: with batches of fewer than two or three times the number of classes: a class missing from
    the batch counts as wholly confused, so that right predictions are driven towards it.

    Args:
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


def pseudo_label_loss(logits: Float[Tensor, "b c"], *, threshold: float = 0.9) -> Float[Tensor, ""]:
    """Cross-entropy with predictions of probability at least ``threshold``, over *all* records of the batch.

    Lee (2013, Pseudo-label: the simple and efficient semi-supervised learning method). The threshold, and the
    division by all records, are those of FixMatch (https://arxiv.org/abs/2001.07685).

    When not to use: where the classifier is confidently wrong on the target: it learns its own mistakes.

    """
    confidence, labels = logits.detach().softmax(dim=1).max(dim=1)
    losses = F.cross_entropy(logits, labels, reduction="none")
    return (losses * (confidence >= threshold)).mean()
