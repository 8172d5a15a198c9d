"""Concatenation of the mean tokens: projected, or side by side for heads of their own."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fusion.base import FusionModule, check_sizes, pool
from fusion.names import NamedModules


def parts_of(fused: Float[Tensor, "b f"], in_dims: Mapping[str, int]) -> dict[str, Float[Tensor, "b _d"]]:
    """Input -> its part of a concatenation that is not projected."""
    return dict(zip(in_dims, fused.split(list(in_dims.values()), dim=1), strict=True))


class ConcatFusion(FusionModule):
    """The mean token of each input, normalised and side by side, projected to ``out_dim``.

    Each input is brought to its own mean 0 and variance 1, because pretrained encoders differ by orders of magnitude.

    Args:
        in_dims: dimension of each input, e.g. ``{"image": 512, "text": 384}``.
        out_dim: dimension of the fused vector; None leaves the concatenation as it is: the fusion then has no
            parameters but the missing tokens.
        dropout: probability of dropping an element of the fused vector while training; None is 0.1 where it is
            projected, else 0.

    Raises:
        ValueError: if ``in_dims`` is empty or an argument is out of range.
    """

    uses_mean_token_only = True

    def __init__(self, in_dims: Mapping[str, int], out_dim: int | None = None, *, dropout: float | None = None) -> None:
        super().__init__(in_dims)
        check_sizes(out_dim=out_dim)
        dim = sum(self.in_dims.values())
        self.out_dim = dim if out_dim is None else out_dim
        learned = out_dim is not None
        self.norms = NamedModules(
            {name: nn.LayerNorm(dim, elementwise_affine=learned) for name, dim in self.in_dims.items()}
        )
        self.project: nn.Module = nn.Dropout(0.0 if dropout is None else dropout)
        if out_dim is not None:
            self.project = nn.Sequential(
                nn.Linear(dim, out_dim), nn.GELU(), nn.Dropout(0.1 if dropout is None else dropout)
            )

    def fuse(self, tokens: dict[str, Tensor], masks: dict[str, Tensor]) -> Float[Tensor, "b f"]:
        """Concatenates in the order of ``in_dims``."""
        pooled = pool(tokens, masks, self.norms)
        return self.project(torch.cat([pooled[name] for name in self.in_dims], dim=1))


class LateFusion(ConcatFusion):
    """The mean token of each input, normalised and side by side; zeros where a record has no such input.

    It learns nothing: ``multimodal.model.input_heads.LateHead`` has a head per input and adds their answers.

    Args:
        in_dims: dimension of each input, e.g. ``{"image": 512, "text": 384}``.
        dropout: probability of dropping an element while training; None is 0.

    Raises:
        ValueError: if ``in_dims`` is empty or an argument is out of range.
    """

    learns_missing = False

    def __init__(self, in_dims: Mapping[str, int], *, dropout: float | None = None) -> None:
        super().__init__(in_dims, dropout=dropout)
