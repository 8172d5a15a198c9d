"""Fusion by attention over the tokens of all inputs."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusion.base import FusionModule, check_sizes, masked_mean
from fusion.names import NamedModules, NamedParameters


def attend(
    queries: Float[Tensor, "b heads q d"],
    keys: Float[Tensor, "b heads l d"],
    values: Float[Tensor, "b heads l d"],
    mask: Bool[Tensor, "b l"],
) -> Float[Tensor, "b heads q d"]:
    """Scaled dot-product attention in which a record without a real token gives zero.

    Written out because torch and onnxruntime disagree on fully masked rows: 0 against mean(values) or NaN.
    """
    scores = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])  # [b heads q l]
    bias = torch.where(mask, 0.0, -1e4).to(scores.dtype)[:, None, None, :]  # -1e4, not -inf: float16 overflows
    present = mask.any(dim=1).to(values.dtype)[:, None, None, None]
    return (scores + bias).softmax(dim=-1) @ values * present


class AttentionFusion(FusionModule):
    """Learned queries attend over the tokens of all inputs at once.

    The pooling by multi-head attention of the Set Transformer (Lee et al., 2019,
    https://arxiv.org/abs/1810.00825, section 3.2), over tokens that carry a learned embedding of their modality. Ours
    differs: the tokens are not mixed by self-attention first, and the mean token of each input is joined to
    the summaries, so that late fusion is a special case of it.

    Args:
        in_dims: dimension of each input, e.g. ``{"image": 512, "text": 384}``.
        out_dim: dimension of the fused vector.
        num_queries: how many summaries of the record are learned.
        num_heads: attention heads; must divide ``out_dim``.
        dropout: probability of dropping an element of the fused vector while training.

    Raises:
        ValueError: if ``in_dims`` is empty, ``num_heads`` does not divide ``out_dim`` or an argument is out of range.
    """

    def __init__(
        self,
        in_dims: Mapping[str, int],
        out_dim: int = 256,
        *,
        num_queries: int = 4,
        num_heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(in_dims)
        check_sizes(out_dim=out_dim, num_queries=num_queries, num_heads=num_heads)
        if out_dim % num_heads:
            raise ValueError(
                f"attention fusion has dim {out_dim} and num_heads {num_heads}; num_heads must divide dim, "
                f"for example num_heads={math.gcd(out_dim, 4)}"
            )
        self.out_dim = out_dim
        self.num_heads = num_heads
        self.embed = NamedModules(
            {name: nn.Sequential(nn.LayerNorm(d), nn.Linear(d, out_dim)) for name, d in self.in_dims.items()}
        )
        # 0.02: BERT's initial scale for embeddings
        self.modality_embeddings = NamedParameters(
            {name: nn.Parameter(0.02 * torch.randn(out_dim)) for name in self.in_dims}
        )
        self.queries = nn.Parameter(0.02 * torch.randn(num_queries, out_dim))
        self.key = nn.Linear(out_dim, out_dim, bias=False)  # softmax is blind to a bias shared by all keys
        self.value = nn.Linear(out_dim, out_dim)
        parts = num_queries + len(self.in_dims)
        self.out = nn.Sequential(nn.Linear(parts * out_dim, out_dim), nn.GELU(), nn.Dropout(dropout))

    def fuse(self, tokens: dict[str, Tensor], masks: dict[str, Tensor]) -> Float[Tensor, "b f"]:
        """Attends over all inputs' tokens, the queries independent of each other."""
        embedded = {name: self.embed[name](tokens[name]) + self.modality_embeddings[name] for name in self.in_dims}
        means = [masked_mean(embedded[name], masks[name]) for name in self.in_dims]
        joined = torch.cat(list(embedded.values()), dim=1)  # [b l f], l over all inputs
        mask = torch.cat([masks[name] for name in self.in_dims], dim=1)
        queries = self.queries.expand(joined.shape[0], -1, -1)
        summaries = attend(
            self._split(queries), self._split(self.key(joined)), self._split(self.value(joined)), mask
        )  # [b heads q f/heads]
        return self.out(torch.cat([summaries.transpose(1, 2).flatten(1), *means], dim=1))

    def _split(self, x: Float[Tensor, "b l f"]) -> Float[Tensor, "b heads l f/heads"]:
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
