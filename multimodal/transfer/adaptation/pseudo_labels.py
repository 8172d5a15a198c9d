"""Pseudo-labels: sure answers to unlabelled records are taken for their labels."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def pseudo_label_loss(logits: Float[Tensor, "b c"], *, threshold: float = 0.9) -> Float[Tensor, ""]:
    """Cross-entropy with the answers whose probability is at least ``threshold``, over *all* records of the batch.

    Lee (2013, Pseudo-label: the simple and efficient semi-supervised learning method). The threshold, and the
    division by all records, are those of FixMatch (https://arxiv.org/abs/2001.07685): few sure answers pull little.

    When not to use: where the classifier is surely wrong on the target: it learns its own mistakes.

    Args:
        logits: of target records.
        threshold: least probability, which counts as a label; without gradient.
    """
    sure, labels = logits.detach().softmax(dim=1).max(dim=1)
    losses = F.cross_entropy(logits, labels, reduction="none")
    return (losses * (sure >= threshold)).mean()
