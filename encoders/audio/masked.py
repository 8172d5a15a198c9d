"""Normalisation, convolution and attention that see a record's real samples only."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


def masked_normalize(
    x: Float[Tensor, "b c t"], mask: Bool[Tensor, "b t"], epsilon: float = 1e-5
) -> Float[Tensor, "b c t"]:
    """Brings the real part of each channel of each record to mean 0 and variance 1."""
    real = mask[:, None].to(x.dtype)  # [b 1 t]
    # means, not sums: float16 holds neither the sum of a minute of samples nor one over their number
    share = real.mean(dim=2, keepdim=True).clamp_min(1e-4)
    centred = x - (x * real).mean(dim=2, keepdim=True) / share
    variance = (centred.square() * real).mean(dim=2, keepdim=True) / share
    return centred * torch.rsqrt(variance + epsilon)


def masked_group_norm(
    norm: nn.GroupNorm, x: Float[Tensor, "b c t"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, "b c t"]:
    """A group norm with one channel a group, over the real frames only."""
    assert norm.num_groups == norm.num_channels
    return masked_normalize(x, mask, norm.eps) * norm.weight[:, None] + norm.bias[:, None]


def extract_frames(
    layers: Iterable[Any], inputs: Mapping[str, Tensor], epsilon: float | None
) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
    """wav2vec 2.0's features of each frame, and which frames saw no padding in any layer.

    Args:
        layers: of torchaudio or of transformers: each has a ``conv``, maybe a ``layer_norm`` (a GroupNorm, or a
            LayerNorm over the channels), and maybe an ``activation`` that is no GELU.
        inputs: ``waveform`` and ``waveform_mask``, both ``[b s]``.
        epsilon: added to the variance of the waveform, which is normalised; None leaves it as it is.
    """
    waveform, mask = inputs["waveform"], inputs["waveform_mask"]
    if epsilon is not None:
        waveform = masked_normalize(waveform[:, None], mask, epsilon)[:, 0]
    x, real, lengths = torch.where(mask, waveform, 0.0)[:, None], mask, mask.sum(dim=1)  # [b 1 s], [b s], [b]
    for layer in layers:
        x = layer.conv(x)
        (kernel,), (stride,) = layer.conv.kernel_size, layer.conv.stride
        lengths = (lengths - kernel) // stride + 1
        real = torch.arange(x.shape[2], device=x.device) < lengths[:, None]
        norm = getattr(layer, "layer_norm", None)
        if isinstance(norm, nn.GroupNorm):
            x = masked_group_norm(norm, x, real)
        elif norm is not None:  # torchaudio's own LayerNorm turns the axes around by itself, this one does not
            x = nn.LayerNorm.forward(norm, x.transpose(1, 2)).transpose(1, 2)
        x = getattr(layer, "activation", F.gelu)(x)
    return x.transpose(1, 2), real


def attention_bias(real: Bool[Tensor, "b l"], x: Float[Tensor, "b l d"]) -> Float[Tensor, "b 1 l l"]:
    """Bias that hides padding when it is added to the attention scores, query by query."""
    # -1e4, not -inf: float16 overflows
    hidden = torch.where(real, 0.0, -1e4).to(x.dtype)[:, None, None, :]  # [b 1 1 l]
    return hidden.expand(-1, 1, x.shape[1], -1)


def speech_groups(
    layers: Iterable[nn.Module], projection: nn.Module, transformer: Any, *, norm_last: bool
) -> list[list[nn.Parameter]]:
    """Parameters by depth: each convolution, the projection with the positions, each layer of the transformer.

    Args:
        norm_last: whether the transformer's norm comes after its layers, not before.
    """
    convolutions, blocks = ([list(layer.parameters()) for layer in part] for part in (layers, transformer.layers))
    before = [*projection.parameters(), *transformer.pos_conv_embed.parameters()]
    norm = list(transformer.layer_norm.parameters())
    return [*convolutions, before, *blocks, norm] if norm_last else [*convolutions, before + norm, *blocks]


def shortest_input(layers: Iterable[Any]) -> int:
    """Samples that one frame of such layers needs."""
    samples = 1
    for layer in reversed(list(layers)):
        (kernel,), (stride,) = layer.conv.kernel_size, layer.conv.stride
        samples = (samples - 1) * stride + kernel
    return samples
