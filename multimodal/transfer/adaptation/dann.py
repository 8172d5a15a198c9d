"""Domain-adversarial training: features from which a discriminator cannot tell the domain."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from multimodal.transfer.adaptation.deep_coral import check_batches
from multimodal.transfer.adaptation.gradient_reversal import reverse_gradient


class DomainDiscriminator(nn.Module):
    """Logit that a record is of the source; two hidden layers, without BatchNorm, which would mix the domains.

    Args:
        in_dim: width of the features.
        hidden_dim: of both hidden layers; 0: none, a logistic regression, as in the paper's two moons.
        dropout: after each of them, while training.
    """

    def __init__(self, in_dim: int, hidden_dim: int = 256, *, dropout: float = 0.0) -> None:
        super().__init__()
        if hidden_dim == 0:
            self.layers = nn.Sequential(nn.Linear(in_dim, 1))
            return
        self.layers = nn.Sequential(
            nn.Linear(in_dim, hidden_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, hidden_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, 1),
        )

    def forward(self, features: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """One logit a record."""
        return self.layers(features)[:, 0]


def dann_loss(
    discriminator: Callable[[Tensor], Tensor],
    source: Float[Tensor, "b d"],
    target: Float[Tensor, "_b d"],
    *,
    scale: float = 1.0,
) -> Float[Tensor, ""]:
    """Mean binary cross-entropy of the discriminator, whose gradient reaches the features reversed.

    DANN (Ganin et al., 2016, https://jmlr.org/papers/v17/15-239.html). Each domain counts a half, whatever its number
    of records. Ours differs: the discriminator learns at full rate from the first step; ``scale`` is on the reversal
    alone.

    When not to use: where the classes are mixed in other shares in the target, or the shift is so large that a wrong
    match of classes aligns as well. A loss of ln 2 says aligned *or* collapsed: watch the source accuracy.

    Args:
        discriminator: features [b d] -> logits [b].
        source, target: features of a batch of each domain.
        scale: what ``reversal_scale`` gives.

    Raises:
        ValueError: if the widths differ, or a batch is empty.
    """
    check_batches(source, target)
    return domain_loss(
        discriminator(reverse_gradient(source, scale)), discriminator(reverse_gradient(target, scale)), None, None
    )


def domain_loss(
    source: Float[Tensor, " b"],
    target: Float[Tensor, " _b"],
    source_weights: Float[Tensor, " b"] | None,
    target_weights: Float[Tensor, " _b"] | None,
) -> Float[Tensor, ""]:
    """Binary cross-entropy of logits: source is one, target zero, and each domain counts a half."""
    losses = [
        F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label), weight)
        for logits, label, weight in ((source, 1.0, source_weights), (target, 0.0, target_weights))
    ]
    return (losses[0] + losses[1]) / 2
