"""Several tasks at once: weights learned from uncertainty, gradients without conflicts."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class UncertaintyWeighting(nn.Module):
    """Sum over tasks of exp(-s) L / 2 + s / 2, with a learned s = log sigma^2 each; at its optimum s = log L.

    Kendall, Gal and Cipolla (2018, https://arxiv.org/abs/1705.07115). Ours differs: s is kept in -10..10, so that a
    loss that falls to zero does not count without bound.

    When not to use: with weight decay on s; with few tasks whose losses are already on one scale. A task that is
    easy counts more and more, whether or not it matters.

    Legend: t tasks.
    """

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        if num_tasks < 1:
            raise ValueError(f"num_tasks is {num_tasks}; give the number of losses, 1 or more")
        self.log_variances = nn.Parameter(torch.zeros(num_tasks))

    def forward(self, losses: Float[Tensor, " t"]) -> Float[Tensor, ""]:
        """Scalar loss to train on; may be negative."""
        return (self.factors() * losses + self.logs() / 2).sum()

    def logs(self) -> Float[Tensor, " t"]:
        """Each s."""
        return self.log_variances.clamp(-10.0, 10.0)

    def factors(self) -> Float[Tensor, " t"]:
        """Factor on each loss, with its gradient."""
        return (-self.logs()).exp() / 2

    def weights(self) -> Float[Tensor, " t"]:
        """Factor on each loss."""
        return self.factors().detach()


def project_conflicts(
    gradients: Float[Tensor, "t p"], *, generator: torch.Generator | None = None
) -> Float[Tensor, " p"]:
    """Sum of the tasks' gradients, each first projected off those that it conflicts with, in random order.

    Yu et al. (2020, https://arxiv.org/abs/2001.06782), algorithm 1.

    When not to use: with losses on one scale and no conflict seen: a plain sum does as well at a fraction of the cost
    (https://arxiv.org/abs/2201.04122). ``gradient_cosines`` shows whether there is any.

    Args:
        gradients: of the shared parameters, one row per task.
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
