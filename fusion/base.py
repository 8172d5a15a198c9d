"""The contract of every fusion: tokens of several inputs in, one vector per record out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusion.names import NamedParameters


class FusionModule(nn.Module, ABC):
    """Fuses the tokens ``[b l d]`` of any number of inputs, one included, into one vector ``[b f]``.

    A record without an input arrives as a row whose mask is all False. This class puts that input's *learned
    missing token* in its place before ``fuse`` sees it (zeros where it learns none), so that no row is ever empty and
    one exported graph serves every combination of inputs.

    Legend: b records, l tokens of one input, d an encoder's dim, f the fused dim.

    Args:
        in_dims: dimension of each input, e.g. ``{"image": 512, "text": 384}``.

    Raises:
        ValueError: if ``in_dims`` is empty.
    """

    out_dim: int
    uses_mean_token_only: bool = False
    """True if it looks at nothing but the mean of each input's real tokens."""
    learns_missing: bool = True
    """True if the tokens that stand for missing inputs are learned, else zeros."""

    def __init__(self, in_dims: Mapping[str, int]) -> None:
        super().__init__()
        if not in_dims:
            raise ValueError("a fusion needs at least one input; in_dims is empty")
        self.in_dims = dict(in_dims)
        # BERT's initial scale, https://arxiv.org/abs/1810.04805
        self.missing = NamedParameters(
            {name: nn.Parameter(0.02 * torch.randn(dim)) for name, dim in self.in_dims.items()}
            if self.learns_missing
            else {}
        )

    def forward(self, tokens: dict[str, Tensor], masks: dict[str, Tensor]) -> Float[Tensor, "b f"]:
        """Fuses; every missing input is replaced by its learned token first."""
        filled = {name: self.fill_missing(name, tokens[name], masks[name]) for name in self.in_dims}
        return self.fuse(
            {name: pair[0] for name, pair in filled.items()}, {name: pair[1] for name, pair in filled.items()}
        )

    @abstractmethod
    def fuse(self, tokens: dict[str, Tensor], masks: dict[str, Tensor]) -> Float[Tensor, "b f"]:
        """Fuses tokens of which every record has at least one real one per input."""

    def fill_missing(
        self, name: str, tokens: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"]
    ) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """Puts the missing token at the first position of each record that has no real token."""
        first = torch.arange(mask.shape[1], device=mask.device) == 0  # [l]
        gap = first & ~mask.any(dim=1, keepdim=True)  # [b l]
        missing = self.missing[name] if self.learns_missing else tokens.new_zeros(self.in_dims[name])
        return torch.where(gap[:, :, None], missing.to(tokens.dtype), tokens), mask | gap


def check_sizes(**sizes: int | None) -> None:
    """Refuses a size below 1; None stands for a size that was left out.

    Raises:
        ValueError: for the first such size.
    """
    for name, size in sizes.items():
        if size is not None and size < 1:
            raise ValueError(f"{name} is {size}; give at least 1")


def masked_mean(tokens: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b d"]:
    """Mean of the real tokens of each record; zero where a record has none."""
    weights = mask.to(tokens.dtype)[:, :, None]  # [b l 1]
    return (tokens * weights).sum(1) / weights.sum(1).clamp_min(1.0)


def pool(tokens: Mapping[str, Tensor], masks: Mapping[str, Tensor], norms: nn.ModuleDict) -> dict[str, Tensor]:
    """One vector ``[b d]`` per input: its mean token, normalised where ``norms`` has an entry for it."""
    pooled = {name: masked_mean(tokens[name], masks[name]) for name in tokens}
    return {name: norms[name](vector) if name in norms else vector for name, vector in pooled.items()}
