"""Entropy minimisation: answers to target records should be sure."""

from jaxtyping import Float
from torch import Tensor


def entropies(logits: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """Entropy of each record's answer, in nats."""
    logs = logits.log_softmax(dim=1)
    return -(logs.exp() * logs).sum(dim=1)


def entropy_loss(logits: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """Mean entropy of the answers to unlabelled records.

    Grandvalet and Bengio (2004, Semi-supervised learning by entropy minimization).

    When not to use: alone, or early, or where the source classifier is mostly wrong on the target: the same sure
    answer to every record is its minimum, and wrong answers become sure.

    Args:
        logits: of target records.
    """
    return entropies(logits).mean()
