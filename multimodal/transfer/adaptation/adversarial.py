"""Adversarial adaptation: gradient reversal, DANN, CDAN."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from multimodal.transfer.adaptation.confidence import entropies
from multimodal.transfer.adaptation.distances import check_batches


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * gradients[0], None


def reverse_gradient(features: Float[Tensor, "b d"], scale: float = 1.0) -> Float[Tensor, "b d"]:
    """Identity whose gradient is multiplied by -scale.

    Ganin et al. (2016, https://jmlr.org/papers/v17/15-239.html), section 3.2. The scale belongs here *or* on the loss:
    on the loss it starves the discriminator, too.

    When not to use: at a scale of 1 from the first step; see ``reversal_scale``.
    """
    return _Reverse.apply(features, scale)


def reversal_scale(progress: float) -> float:
    """2 / (1 + exp(-10 p)) - 1: from 0 to 1 over the training.

    Ganin et al. (2016, https://jmlr.org/papers/v17/15-239.html), section 5.2.2.

    When not to use: with a progress counted in other steps than all of the training's; it then never reaches 1.

    Args:
        progress: share of the training that is done, 0 to 1.

    >>> [round(reversal_scale(progress), 4) for progress in (0, 0.1, 0.25, 0.5, 1)]
    [0.0, 0.4621, 0.8483, 0.9866, 0.9999]

    Raises:
        ValueError: if the progress is not in 0..1.
    """
    if not 0.0 <= progress <= 1.0:
        raise ValueError(f"progress is {progress}; give the share of the training that is done, 0 to 1")
    return 2.0 / (1.0 + math.exp(-10.0 * progress)) - 1.0


class DomainDiscriminator(nn.Module):
    """Logit that a record is of the source; two hidden layers, without BatchNorm, which would mix the domains.

    Args:
        in_dim: dimension of the features.
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
        """One logit per record."""
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
        scale: from ``reversal_scale``.

    Raises:
        ValueError: if the dimensions differ, or a batch is empty.
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


def multilinear_map(features: Float[Tensor, "b d"], probabilities: Float[Tensor, "b c"]) -> Float[Tensor, "b dc"]:
    """Outer product of features and class probabilities.

    When not to use: where d times c is beyond some thousands; see ``RandomMultilinearMap``.
    """
    return (features[:, :, None] * probabilities[:, None, :]).flatten(1)


class RandomMultilinearMap(nn.Module):
    """Random projections of both, multiplied: inner products are those of ``multilinear_map`` on average.

    Long et al. (2018, https://arxiv.org/abs/1705.10667), equation 6; the paper takes it above 4,096 products.

    When not to use: where all products fit; this adds variance.

    Args:
        in_dim, num_classes: dimensions of features and probabilities.
        out_dim: of the result.
        seed: of the projections, which are buffers and are saved.
    """

    first: Float[Tensor, "d o"]
    second: Float[Tensor, "c o"]

    def __init__(self, in_dim: int, num_classes: int, out_dim: int = 1024, *, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("first", torch.randn(in_dim, out_dim, generator=generator))
        self.register_buffer("second", torch.randn(num_classes, out_dim, generator=generator))

    def forward(self, features: Float[Tensor, "b d"], probabilities: Float[Tensor, "b c"]) -> Float[Tensor, "b o"]:
        """The projected products."""
        return (features @ self.first) * (probabilities @ self.second) / math.sqrt(self.first.shape[1])


def cdan_loss(
    discriminator: Callable[[Tensor], Tensor],
    source: tuple[Float[Tensor, "b d"], Float[Tensor, "b c"]],
    target: tuple[Float[Tensor, "_b d"], Float[Tensor, "_b c"]],
    *,
    scale: float = 1.0,
    random_map: RandomMultilinearMap | None = None,
) -> Float[Tensor, ""]:
    """``dann_loss`` on the products of features and predictions; confident ones count more (CDAN+E).

    Long et al. (2018, https://arxiv.org/abs/1705.10667). The discriminator reaches the encoder through the features
    alone: predictions are detached, as in the authors' code, and the weights of CDAN+E too, through which theirs sends
    a reversed gradient (https://github.com/thuml/CDAN/blob/3f879d1/pytorch/loss.py#L35).

    When not to use: with a source classifier that is mostly wrong on the target; wrong predictions are aligned, too.

    Args:
        discriminator: products [b dc] (or the map's ``out_dim``) -> logits [b].
        source, target: features and logits of a batch of each domain.
        scale: from ``reversal_scale``.

    Raises:
        ValueError: if the dimensions differ, or a batch is empty.
    """
    check_batches(source[0], target[0])
    check_batches(source[1], target[1])
    logits, weights = [], []
    for features, outputs in (source, target):
        probabilities = outputs.detach().softmax(dim=1)
        mapped = (random_map or multilinear_map)(features, probabilities)
        logits.append(discriminator(reverse_gradient(mapped, scale)))
        confidence = 1.0 + (-entropies(outputs.detach())).exp()
        weights.append(confidence / confidence.mean())
    return domain_loss(logits[0], logits[1], weights[0], weights[1])
