"""Gradient reversal: nothing changes on the way forward, the sign does on the way back."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * gradients[0], None


def reverse_gradient(features: Float[Tensor, "b d"], scale: float = 1.0) -> Float[Tensor, "b d"]:
    """The features as they are; their gradient times -scale.

    Ganin et al. (2016, https://jmlr.org/papers/v17/15-239.html), section 3.2. The scale belongs here *or* on the loss:
    on the loss it starves the discriminator, too.

    When not to use: at a scale of 1 from the first step; see ``reversal_scale``.
    """
    return _Reverse.apply(features, scale)


def reversal_scale(progress: float, *, steepness: float = 10.0) -> float:
    """2 / (1 + exp(-steepness p)) - 1: from 0 to 1 over the training.

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
    return 2.0 / (1.0 + math.exp(-steepness * progress)) - 1.0
