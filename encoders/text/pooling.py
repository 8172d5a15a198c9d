"""From the tokens of a text to one vector, as the model that gives them was trained to be read."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "Identity": nn.Identity,
    "Tanh": nn.Tanh,
    "ReLU": nn.ReLU,
    "GELU": nn.GELU,
    "Sigmoid": nn.Sigmoid,
    "SiLU": nn.SiLU,
}


def _last(tokens: Tensor, mask: Tensor) -> Tensor:
    places = torch.arange(1, tokens.shape[1] + 1, device=tokens.device) * mask  # [b l]
    return (tokens * (places == places.amax(1, keepdim=True))[:, :, None]).sum(1)


def _weighted_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    weights = (torch.arange(1, tokens.shape[1] + 1, device=tokens.device) * mask).to(tokens.dtype)[:, :, None]
    return (tokens * weights).sum(1) / weights.sum(1)


def _mean(tokens: Tensor, mask: Tensor, power: float = 1.0) -> Tensor:
    weights = mask.to(tokens.dtype)[:, :, None]  # [b l 1]
    return (tokens * weights).sum(1) / weights.sum(1) ** power


MODES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": lambda tokens, mask: tokens[:, 0],
    "max": lambda tokens, mask: torch.where(mask[:, :, None], tokens, -1e4).amax(1),  # -1e9 overflows float16
    "mean": _mean,
    "mean_sqrt_len": lambda tokens, mask: _mean(tokens, mask, 0.5),
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}
"""Poolings of sentence-transformers. It joins several in the order of the folder that names them, and in this order
where the folder has a flag for each."""


class _Dense(nn.Module):
    """A linear layer and what follows it; with the names of sentence-transformers."""

    def __init__(self, size: Sequence[int], bias: bool, activation: str) -> None:
        super().__init__()
        in_dim, out_dim = size
        self.linear = nn.Linear(in_dim, out_dim, bias=bias)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, vector: Tensor) -> Tensor:
        """``[b d]`` -> ``[b e]``."""
        return self.activation(self.linear(vector))


class _LayerNorm(nn.Module):
    """With the names of sentence-transformers."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)

    def forward(self, vector: Tensor) -> Tensor:
        """``[b d]`` -> ``[b d]``."""
        return self.norm(vector)


class _Normalize(nn.Module):
    """To length 1."""

    def forward(self, vector: Tensor) -> Tensor:
        """``[b d]`` -> ``[b d]``."""
        return F.normalize(vector, dim=1)


STEPS: dict[str, Callable[..., nn.Module]] = {"dense": _Dense, "layer_norm": _LayerNorm, "normalize": _Normalize}


class SentencePooling(nn.Module):
    """The sentence embedding of sentence-transformers: tokens pooled, then dense layers and normalisations.

    Sentence-BERT (Reimers & Gurevych, 2019, https://arxiv.org/abs/1908.10084).

    Args:
        description: JSON: first ``{"kind": "pool", "modes": ["mean"]}``, then ``{"kind": "dense", "size": [384, 256],
            "bias": True, "activation": "Tanh"}``, ``{"kind": "layer_norm", "size": 256}`` or ``{"kind": "normalize"}``.

    Raises:
        ValueError: if it is none of that.
    """

    def __init__(self, description: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        try:
            self.description = [dict(step) for step in description]
            first, *others = self.description
            self.modes = list(first["modes"])
            if first["kind"] != "pool" or not self.modes or not set(self.modes) <= set(MODES):
                raise KeyError(str(first))
            self.steps = nn.Sequential(*(self._make(**step) for step in others))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"pooling {description!r} cannot be built ({error}); give 'auto', 'tokens', 'sentence' or 'projected', "
                f"or steps: a pool with modes of {', '.join(MODES)}, then {', '.join(STEPS)}"
            ) from error

    @staticmethod
    def _make(kind: str, **options: Any) -> nn.Module:
        return STEPS[kind](**options)

    def forward(self, output: Any, mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b e"]:
        """One vector for each text, of a model's output that has ``last_hidden_state``."""
        tokens = output.last_hidden_state
        return self.steps(torch.cat([MODES[mode](tokens, mask) for mode in self.modes], dim=1))


class JointEmbedding(nn.Module):
    """The vector that a text tower shares with the other tower, such as CLIP's with images; not normalised.

    Args:
        field: of the model's output.
    """

    description = "projected"

    def __init__(self, field: str) -> None:
        super().__init__()
        self.field = field

    def forward(self, output: Any, mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b e"]:
        """That field."""
        return getattr(output, self.field)
