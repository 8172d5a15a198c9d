"""Conditional adversarial adaptation: the discriminator sees features and answers together."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from multimodal.transfer.adaptation.dann import domain_loss
from multimodal.transfer.adaptation.deep_coral import check_batches
from multimodal.transfer.adaptation.entropy import entropies
from multimodal.transfer.adaptation.gradient_reversal import reverse_gradient


def multilinear_map(features: Float[Tensor, "b d"], probabilities: Float[Tensor, "b c"]) -> Float[Tensor, "b dc"]:
    """All products of a feature and a class probability.

    When not to use: where d times c is beyond some thousands; see ``RandomMultilinearMap``.
    """
    return (features[:, :, None] * probabilities[:, None, :]).flatten(1)


class RandomMultilinearMap(nn.Module):
    """Random projections of both, multiplied: inner products are those of ``multilinear_map`` on average.

    Long et al. (2018, https://arxiv.org/abs/1705.10667), equation 6; the paper takes it above 4,096 products.

    When not to use: where all products fit; this adds variance.

    Args:
        in_dim, num_classes: widths of features and answers.
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
    entropy_weighted: bool = True,
    random_map: RandomMultilinearMap | None = None,
) -> Float[Tensor, ""]:
    """As ``dann_loss``, of the products of features and answers; sure answers may count more (CDAN+E).

    Long et al. (2018, https://arxiv.org/abs/1705.10667). Answers are detached, as in the authors' code: the
    discriminator reaches the encoder through the features alone.

    When not to use: with a source classifier that is mostly wrong on the target; wrong answers are aligned, too.

    Args:
        discriminator: products [b dc] (or the map's width) -> logits [b].
        source, target: features and logits of a batch of each domain.
        scale: what ``reversal_scale`` gives.

    Raises:
        ValueError: if the widths differ, or a batch is empty.
    """
    check_batches(source[0], target[0])
    check_batches(source[1], target[1])
    logits, weights = [], []
    for features, answers in (source, target):
        probabilities = answers.detach().softmax(dim=1)
        mapped = (random_map or multilinear_map)(features, probabilities)
        logits.append(discriminator(reverse_gradient(mapped, scale)))
        sure = 1.0 + (-entropies(answers.detach())).exp()
        weights.append(sure / sure.mean() if entropy_weighted else None)
    return domain_loss(logits[0], logits[1], weights[0], weights[1])
