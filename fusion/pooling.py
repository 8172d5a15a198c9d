"""The mean of real tokens, for fusions that need one vector per input."""

from collections.abc import Mapping

from jaxtyping import Bool, Float
from torch import Tensor, nn


def masked_mean(tokens: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b d"]:
    """Mean of the real tokens of each record; zero where a record has none."""
    weights = mask.to(tokens.dtype)[:, :, None]  # [b l 1]
    return (tokens * weights).sum(1) / weights.sum(1).clamp_min(1.0)


def pool(tokens: Mapping[str, Tensor], masks: Mapping[str, Tensor], norms: nn.ModuleDict) -> dict[str, Tensor]:
    """One vector ``[b d]`` per input: its mean token, normalised where ``norms`` has an entry for it."""
    pooled = {name: masked_mean(tokens[name], masks[name]) for name in tokens}
    return {name: norms[name](vector) if name in norms else vector for name, vector in pooled.items()}
