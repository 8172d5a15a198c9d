"""Uncertainty weighting: how much each task counts is learned with the rest."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class UncertaintyWeighting(nn.Module):
    """Sum over tasks of exp(-s) L / 2 + s / 2, with a learned s = log sigma^2 each; at its optimum s = log L.

    Kendall, Gal and Cipolla (2018, https://arxiv.org/abs/1705.07115). Ours differs: s is kept in -10..10, so that a
    loss that falls to zero does not count without bound.

    When not to use: with weight decay on s; with few tasks whose losses are already on one scale. A task that is
    easy counts more and more, whether or not it matters.

    Args:
        num_tasks: t.

    Legend: t tasks.
    """

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        if num_tasks < 1:
            raise ValueError(f"num_tasks is {num_tasks}; give the number of losses, 1 or more")
        self.log_variances = nn.Parameter(torch.zeros(num_tasks))

    def forward(self, losses: Float[Tensor, " t"]) -> Float[Tensor, ""]:
        """The one loss to train on; may be negative."""
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
