"""The transformer of WavLM, on the layers that torchaudio or transformers built."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def relative_transformer(
    layers: Sequence[Any], x: Float[Tensor, "b l d"], bias: Float[Tensor, "b 1 l l"], *, norm_first: bool
) -> Float[Tensor, "b l d"]:
    """Runs the layers with attention that knows relative positions, gated by what is asked (WavLM).

    Chen et al., 2021, https://arxiv.org/abs/2110.13900, section 3.1. Written out because neither library takes a
    padding mask that an exporter can follow: theirs comes as booleans beside a bias of floats.

    Args:
        layers: with the names that both libraries give to their parts.
        bias: added to the attention of every head; hides padding.
        norm_first: whether the norms come before attention and feed-forward, as in the large model.
    """
    positions = layers[0].attention.compute_bias(x.shape[1], x.shape[1])  # [h l l], for all layers
    for layer in layers:
        attended = _attend(layer.attention, layer.layer_norm(x) if norm_first else x, positions, bias)
        x = x + layer.dropout(attended)
        if norm_first:
            x = x + layer.feed_forward(layer.final_layer_norm(x))
        else:
            x = layer.layer_norm(x)
            x = layer.final_layer_norm(x + layer.feed_forward(x))
    return x


def _attend(
    attention: Any, x: Float[Tensor, "b l d"], positions: Float[Tensor, "h l l"], bias: Float[Tensor, "b 1 l l"]
) -> Float[Tensor, "b l d"]:
    heads = attention.num_heads
    # torchaudio keeps the three projections in one matrix
    inner = getattr(attention, "attention", None)
    output: Any = attention.out_proj if inner is None else inner.out_proj
    if inner is None:
        projected = torch.cat([attention.q_proj(x), attention.k_proj(x), attention.v_proj(x)], dim=2)
    else:
        projected = F.linear(x, inner.in_proj_weight, inner.in_proj_bias)
    query, key, value = (_by_head(part, heads) for part in projected.chunk(3, dim=2))
    gated = _gate(attention, _by_head(x, heads)) * positions  # [b h l l]
    scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3]) + gated + bias
    weights = F.dropout(torch.softmax(scores, dim=3), attention.dropout, attention.training)
    return output((weights @ value).transpose(1, 2).flatten(2))


def _by_head(x: Float[Tensor, "b l d"], heads: int) -> Float[Tensor, "b h l e"]:
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def _gate(attention: Any, x: Float[Tensor, "b h l e"]) -> Float[Tensor, "b h l 1"]:
    """Factor of each position on its relative positions."""
    update, reset = attention.gru_rel_pos_linear(x).unflatten(3, (2, 4)).sum(dim=4).sigmoid().chunk(2, dim=3)
    return update * (reset * attention.gru_rel_pos_const - 1.0) + 2.0
