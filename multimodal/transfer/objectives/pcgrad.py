"""PCGrad: takes out of each task's gradient what works against another task."""

import torch
from jaxtyping import Float
from torch import Tensor


def project_conflicts(
    gradients: Float[Tensor, "t p"], *, generator: torch.Generator | None = None
) -> Float[Tensor, " p"]:
    """Sum of the tasks' gradients, each first projected off those that it conflicts with, in random order.

    Yu et al. (2020, https://arxiv.org/abs/2001.06782), algorithm 1.

    When not to use: with losses on one scale and no conflict seen: a plain sum does as well at a fraction of the cost
    (https://arxiv.org/abs/2201.04122). ``gradient_cosines`` shows whether there is any.

    Args:
        gradients: of the shared parameters, one row a task.
        generator: of the order; None takes torch's.

    Legend: t tasks, p parameters.
    """
    found = []
    for index, gradient in enumerate(gradients):
        for other in torch.randperm(len(gradients), generator=generator).tolist():
            against = gradient @ gradients[other]
            if other != index and against < 0:
                gradient = gradient - against / gradients[other].square().sum() * gradients[other]
        found.append(gradient)
    return torch.stack(found).sum(dim=0)


def gradient_cosines(gradients: Float[Tensor, "t p"]) -> Float[Tensor, "t t"]:
    """Cosine between each two tasks' gradients; below zero they conflict. A task without any gradient has cosine 0.

    When not to use: to decide anything from a single step.
    """
    unit = gradients / gradients.norm(dim=1, keepdim=True).clamp_min(torch.finfo(gradients.dtype).tiny)
    return unit @ unit.T
