"""Layers that two compact encoders share."""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


class GatedConv(nn.Module):
    """Adds to each token a convolution over its neighbours, of which one half gates the other.

    Gated linear units (Dauphin et al., 2017, https://arxiv.org/abs/1612.08083), centred instead of causal.
    Padding counts as zero, as what lies beyond the ends does.

    Args:
        dim: of the tokens.
        size: tokens that one output sees; odd.
        dropout: probability of dropping an element of what is added while training.
    """

    def __init__(self, dim: int, size: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.conv = nn.Conv1d(dim, 2 * dim, size, padding=size // 2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        """Sums ``x`` and the gated convolution of its normalised tokens."""
        real = self.norm(x) * mask[:, :, None].to(x.dtype)
        return x + self.dropout(F.glu(self.conv(real.transpose(1, 2)), dim=1).transpose(1, 2))
