"""Distances between domains as losses: Deep CORAL, maximum mean discrepancy."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def deep_coral_loss(source: Float[Tensor, "b d"], target: Float[Tensor, "_b d"]) -> Float[Tensor, ""]:
    """|C_s - C_t|^2 / (4 d^2), from the sample covariances; blind to a shift of the mean.

    Sun and Saenko (2016, https://arxiv.org/abs/1607.01719), equation 1. Batches may differ in size.

    When not to use: with batches of fewer records than a few times d, whose covariances are noise; where the classes
    are mixed in other shares in the target.

    Raises:
        ValueError: if a batch has a single record, or the dimensions differ.
    """
    check_batches(source, target, least=2)
    difference = _covariance(source) - _covariance(target)
    return difference.square().sum() / (4 * source.shape[1] ** 2)


def _covariance(features: Float[Tensor, "b d"]) -> Float[Tensor, "d d"]:
    centred = features - features.mean(dim=0)
    return centred.T @ centred / (len(features) - 1)


def check_batches(source: Float[Tensor, "b _d"], target: Float[Tensor, "_b _e"], *, least: int = 1) -> None:
    """Raises a ValueError if a batch has fewer records than ``least``, or the dimensions differ."""
    if (
        source.ndim != 2
        or target.ndim != 2
        or source.shape[1] != target.shape[1]
        or min(len(source), len(target)) < least
    ):
        raise ValueError(
            f"batches are {list(source.shape)} (source) and {list(target.shape)} (target); give features "
            f"of one dimension, [b d], with at least {least} records of each domain in every batch"
        )


MIXTURE = (0.125, 0.25, 0.5, 1.0, 2.0)
"""Factors on the squared bandwidth: s^2 2^k, k = -3..1."""


def mmd_loss(
    source: Float[Tensor, "b d"],
    target: Float[Tensor, "_b d"],
    *,
    bandwidth: float | Tensor | None = None,
    factors: Sequence[float] = MIXTURE,
) -> Float[Tensor, ""]:
    """Squared MMD as a V-statistic, for training: never negative, zero for the same records.

    Gretton et al. (2012, https://jmlr.org/papers/v13/gretton12a.html); as a loss: Long et al. (2015,
    https://arxiv.org/abs/1502.02791). Means over blocks, so that batches may differ in size. For records of one
    domain it is above zero by 2 (1 - E k) / b: take that away to report it.

    When not to use: where the classes are mixed in other shares in the target; with a handful of records per batch.

    Args:
        bandwidth: s of exp(-|x - y|^2 / 2 s^2); None: the median distance of the batch, detached.
        factors: on s^2, one kernel each; the mean of them is used.

    Raises:
        ValueError: if the dimensions differ, or a batch is empty.
    """
    check_batches(source, target)
    within_source, within_target, between = _kernels(source, target, bandwidth, factors)
    return within_source.mean() + within_target.mean() - 2 * between.mean()


@torch.no_grad()
def median_bandwidth(source: Float[Tensor, "b d"], target: Float[Tensor, "_b d"]) -> Float[Tensor, ""]:
    """Median distance between two records of the pooled batch, without gradient."""
    distances = torch.pdist(torch.cat([source, target]).float())
    return distances.median().clamp_min(1e-6)  # where all records are the same


def _kernels(
    source: Tensor, target: Tensor, bandwidth: float | Tensor | None, factors: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    scale = median_bandwidth(source, target) if bandwidth is None else bandwidth
    scales = [2 * scale**2 * factor for factor in factors]

    def kernel(first: Tensor, second: Tensor) -> Tensor:
        squares = first.square().sum(dim=1)[:, None] + second.square().sum(dim=1) - 2 * first @ second.T
        squares = squares.clamp_min(0)  # rounding; cdist's gradient is NaN where two records are the same
        return torch.stack([(-squares / scale).exp() for scale in scales]).mean(dim=0)

    return kernel(source, source), kernel(target, target), kernel(source, target)
