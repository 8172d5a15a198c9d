"""L2-SP: weight decay towards the source weights instead of towards zero."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor


def l2_sp_penalty(
    parameters: Mapping[str, Tensor], anchors: Mapping[str, Tensor], *, alpha: float = 0.01, beta: float = 0.01
) -> Float[Tensor, ""]:
    """alpha/2 |w - w0|^2 over the anchored parameters + beta/2 |w|^2 over the others; at the start its gradient is 0
    for what is anchored.

    Li, Grandvalet and Davoine (2018, https://arxiv.org/abs/1802.01483), equation 3.

    When not to use: beside an optimizer's weight decay on the same parameters, which pulls the other way (set it to
    0); for targets unlike the source, where it holds back what must change.

    Args:
        parameters: name -> parameter that trains.
        anchors: name -> where it started, without gradient.
        alpha, beta: of the anchored and of the new parameters.

    Raises:
        ValueError: if an anchor has no parameter, or another shape.
    """
    strange = [
        name for name, tensor in anchors.items() if name not in parameters or parameters[name].shape != tensor.shape
    ]
    if strange or not parameters:
        raise ValueError(
            f"of {len(parameters)} parameters none fits the anchors {strange[:3]}; take anchors of the same "
            "parameters before the training, {name: p.detach().clone() for ...}"
        )
    terms = [
        beta / 2 * parameter.square().sum()
        if name not in anchors
        else alpha / 2 * (parameter - anchors[name].detach()).square().sum()
        for name, parameter in parameters.items()
    ]
    return torch.stack(terms).sum()
