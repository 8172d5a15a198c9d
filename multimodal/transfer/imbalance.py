"""Logit adjustment: answers as if all classes were alike frequent."""

import torch
from jaxtyping import Float
from torch import Tensor


def adjust_bias(
    bias: Float[Tensor, " c"], frequencies: Float[Tensor, " c"], *, tau: float = 1.0
) -> Float[Tensor, " c"]:
    """b - tau log pi: after the training, in the place of the head's bias, and so in the exported model.

    Menon et al. (2021, https://arxiv.org/abs/2007.07314), equation 9. On digits with 100 to 5 records a class:
    balanced accuracy .87 -> .91, of the three rarest classes .66 -> .84 (benchmarks/transfer.md).

    When not to use: with class weights, a balanced sampler or ``adjusted_logits`` in training, which do the same;
    where production has the frequencies of the training records.

    Args:
        bias: of the head.
        frequencies: share of the training records of each class.
        tau: 1; never chosen on test records.
    """
    return bias - tau * _log_shares(frequencies)


def adjusted_logits(
    logits: Float[Tensor, "b c"], frequencies: Float[Tensor, " c"], *, tau: float = 1.0
) -> Float[Tensor, "b c"]:
    """z + tau log pi, for the loss alone: cross-entropy of these trains a head that answers without it.

    Menon et al. (2021, https://arxiv.org/abs/2007.07314), equation 10.

    When not to use: beside ``adjust_bias``, class weights or a balanced sampler; in answers.
    """
    return logits + tau * _log_shares(frequencies)


def _log_shares(frequencies: Float[Tensor, " c"]) -> Float[Tensor, " c"]:
    if bool((frequencies <= 0).any()) or abs(float(frequencies.sum()) - 1.0) > 1e-4:
        missing = torch.nonzero(frequencies <= 0)[:, 0].tolist()
        raise ValueError(
            f"frequencies sum to {float(frequencies.sum()):.4g}, and those of classes {missing} are not above 0; "
            "give shares of the training records that sum to 1, and leave out classes without a record"
        )
    return frequencies.log()
