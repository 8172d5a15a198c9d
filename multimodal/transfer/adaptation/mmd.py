"""Maximum mean discrepancy: the distance of two domains in the space of a kernel."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from multimodal.transfer.adaptation.deep_coral import check_batches

MIXTURE = (0.125, 0.25, 0.5, 1.0, 2.0)
"""Factors on the squared bandwidth: s^2 2^k, k = -3..1."""


def mmd_loss(
    source: Float[Tensor, "b d"],
    target: Float[Tensor, "_b d"],
    *,
    bandwidth: float | Tensor | None = None,
    factors: Sequence[float] = MIXTURE,
) -> Float[Tensor, ""]:
    """Squared MMD as a V-statistic, to be trained on: never negative, zero for the same records.

    Gretton et al. (2012, https://jmlr.org/papers/v13/gretton12a.html); as a loss: Long et al. (2015,
    https://arxiv.org/abs/1502.02791). Means over blocks, so that batches may differ in size. For records of one
    domain it is above zero by 2 (1 - E k) / b: report ``unbiased_mmd``.

    When not to use: where the classes are mixed in other shares in the target; with a handful of records a batch.

    Args:
        source, target: features of a batch of each domain.
        bandwidth: s of exp(-|x - y|^2 / 2 s^2); None: the median distance of the batch, detached.
        factors: on s^2, one kernel each; the mean of them is used.

    Raises:
        ValueError: if the widths differ, or a batch is empty.
    """
    check_batches(source, target)
    within_source, within_target, between = _kernels(source, target, bandwidth, factors)
    return within_source.mean() + within_target.mean() - 2 * between.mean()


def unbiased_mmd(
    source: Float[Tensor, "b d"],
    target: Float[Tensor, "_b d"],
    *,
    bandwidth: float | Tensor | None = None,
    factors: Sequence[float] = (1.0,),
) -> Float[Tensor, ""]:
    """Squared MMD as a U-statistic, to be reported: around zero, below it too, for records of one domain.

    Gretton et al. (2012, https://jmlr.org/papers/v13/gretton12a.html), lemma 6.

    When not to use: as a loss; its minimum lies below zero.

    Args:
        source, target, bandwidth, factors: as of ``mmd_loss``.

    Raises:
        ValueError: if the widths differ, or a domain has a single record.
    """
    check_batches(source, target, least=2)
    within_source, within_target, between = _kernels(source, target, bandwidth, factors)
    return _off_diagonal_mean(within_source) + _off_diagonal_mean(within_target) - 2 * between.mean()


def linear_mmd(source: Float[Tensor, "b d"], target: Float[Tensor, "_b d"]) -> Float[Tensor, ""]:
    """Squared distance of the means: the MMD of the linear kernel.

    When not to use: where domains differ in more than their mean.
    """
    check_batches(source, target)
    return (source.mean(dim=0) - target.mean(dim=0)).square().sum()


@torch.no_grad()
def median_bandwidth(source: Float[Tensor, "b d"], target: Float[Tensor, "_b d"]) -> Float[Tensor, ""]:
    """Median distance between two records of the pooled batch, without gradient."""
    distances = torch.pdist(torch.cat([source, target]).float())
    return distances.median().clamp_min(1e-6)  # where all records are the same


def _kernels(
    source: Tensor, target: Tensor, bandwidth: float | Tensor | None, factors: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    width = median_bandwidth(source, target) if bandwidth is None else bandwidth
    scales = [2 * width**2 * factor for factor in factors]

    def kernel(first: Tensor, second: Tensor) -> Tensor:
        squares = first.square().sum(dim=1)[:, None] + second.square().sum(dim=1) - 2 * first @ second.T
        squares = squares.clamp_min(0)  # rounding; cdist's gradient is NaN where two records are the same
        return torch.stack([(-squares / scale).exp() for scale in scales]).mean(dim=0)

    return kernel(source, source), kernel(target, target), kernel(source, target)


def _off_diagonal_mean(square: Float[Tensor, "b b"]) -> Float[Tensor, ""]:
    n = len(square)
    return (square.sum() - square.diagonal().sum()) / (n * (n - 1))
