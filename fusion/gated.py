"""Fusion by per-record weights."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fusion.base import FusionModule, check_sizes, pool
from fusion.names import NamedModules


class GatedFusion(FusionModule):
    """Weighted sum of the input embeddings, with weights computed per record.

    Gated multimodal units (Arevalo et al., 2017, https://arxiv.org/abs/1702.01992). Ours differs: a softmax
    over all inputs, where the paper has one sigmoid for two; a missing input takes part with its learned
    token, so that its gate is learned too.

    Args:
        in_dims: dimension of each input, e.g. ``{"image": 512, "text": 384}``.
        out_dim: dimension of the fused vector.
        dropout: probability of dropping an element of the fused vector while training.

    Raises:
        ValueError: if ``in_dims`` is empty or an argument is out of range.
    """

    uses_mean_token_only = True

    def __init__(self, in_dims: Mapping[str, int], out_dim: int = 256, *, dropout: float = 0.1) -> None:
        super().__init__(in_dims)
        check_sizes(out_dim=out_dim)
        self.out_dim = out_dim
        self.norms = NamedModules({name: nn.LayerNorm(dim) for name, dim in self.in_dims.items()})
        self.embed = NamedModules({name: nn.Linear(dim, out_dim) for name, dim in self.in_dims.items()})
        # one gate value per fused element and input, computed from all inputs (the paper's sigma(W_z [x_v, x_t]))
        self.gate = nn.Linear(sum(self.in_dims.values()), out_dim * len(self.in_dims))
        self.dropout = nn.Dropout(dropout)

    def fuse(self, tokens: dict[str, Tensor], masks: dict[str, Tensor]) -> Float[Tensor, "b f"]:
        """Sums ``softmax(gate) * tanh(embedding)`` over the inputs, element by element."""
        pooled = pool(tokens, masks, self.norms)
        embedded = torch.stack([torch.tanh(self.embed[name](pooled[name])) for name in self.in_dims], dim=1)  # [b m f]
        gates = self.gate(torch.cat([pooled[name] for name in self.in_dims], dim=1))
        weights = gates.unflatten(1, (len(self.in_dims), self.out_dim)).softmax(dim=1)  # [b m f]
        return self.dropout((weights * embedded).sum(dim=1))
