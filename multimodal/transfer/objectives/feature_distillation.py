"""Feature distillation: tokens of the encoder that trains stay near those of the encoder as it was."""

from jaxtyping import Bool, Float
from torch import Tensor


def feature_distillation(
    tokens: Float[Tensor, "b l d"],
    source_tokens: Float[Tensor, "b l d"],
    mask: Bool[Tensor, "b l"],
    *,
    channel_weights: Float[Tensor, " d"] | None = None,
) -> Float[Tensor, ""]:
    """Half the squared distance of a record's real tokens, mean over tokens and records; padding changes nothing.

    DELTA (Li et al., 2019, https://arxiv.org/abs/1901.09229), equation 4, on tokens instead of feature maps. Pooled
    features are tokens with l = 1. A record without the input takes no part.

    When not to use: for targets unlike the source; where a second pass through the source encoder costs too much
    (``l2_sp_penalty`` needs none).

    Args:
        tokens: of the encoder that trains.
        source_tokens: of the source encoder for the same inputs; detached here.
        mask: True for a real token.
        channel_weights: what ``channel_attention`` gives; None weighs all channels alike.

    Raises:
        ValueError: if the tokens differ in shape.
    """
    if tokens.shape != source_tokens.shape or mask.shape != tokens.shape[:2]:
        raise ValueError(
            f"tokens are {list(tokens.shape)}, the source's {list(source_tokens.shape)}, the mask {list(mask.shape)}; "
            "encode the same batch with both encoders"
        )
    squares = (tokens - source_tokens.detach()).square()
    if channel_weights is not None:
        squares = squares * (channel_weights * len(channel_weights))  # mean 1: uniform weights are none
    distances = squares.sum(dim=2) / 2  # [b l]
    lengths = mask.sum(dim=1)
    per_record = (distances * mask).sum(dim=1) / lengths.clamp_min(1)
    return per_record.sum() / (lengths > 0).sum().clamp_min(1)


def channel_attention(loss_increases: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    """Softmax of how much the target loss grows where a channel is silenced in the source encoder under a probe.

    DELTA (Li et al., 2019, https://arxiv.org/abs/1901.09229), equation 6.

    When not to use: with losses of so few records that their differences are noise.
    """
    return loss_increases.softmax(dim=0)
