"""Deep CORAL: the covariances of two domains should agree."""

from jaxtyping import Float
from torch import Tensor


def deep_coral_loss(source: Float[Tensor, "b d"], target: Float[Tensor, "_b d"]) -> Float[Tensor, ""]:
    """|C_s - C_t|^2 / (4 d^2), from the sample covariances; blind to a shift of the mean.

    Sun and Saenko (2016, https://arxiv.org/abs/1607.01719), equation 1. Batches may differ in size.

    When not to use: with batches of fewer records than a few times d, whose covariances are noise; where the classes
    are mixed in other shares in the target.

    Args:
        source, target: features of a batch of each domain, two records or more.

    Raises:
        ValueError: if a batch has a single record, or the widths differ.
    """
    check_batches(source, target, least=2)
    difference = _covariance(source) - _covariance(target)
    return difference.square().sum() / (4 * source.shape[1] ** 2)


def _covariance(features: Float[Tensor, "b d"]) -> Float[Tensor, "d d"]:
    centred = features - features.mean(dim=0)
    return centred.T @ centred / (len(features) - 1)


def check_batches(source: Float[Tensor, "b _d"], target: Float[Tensor, "_b _e"], *, least: int = 1) -> None:
    """Refuses batches that cannot be compared.

    Raises:
        ValueError: if one has fewer records than ``least``, or the widths differ.
    """
    if (
        source.ndim != 2
        or target.ndim != 2
        or source.shape[1] != target.shape[1]
        or min(len(source), len(target)) < least
    ):
        raise ValueError(
            f"batches are {list(source.shape)} (source) and {list(target.shape)} (target); give features of one width, "
            f"[b d], with at least {least} records of each domain in every batch"
        )
