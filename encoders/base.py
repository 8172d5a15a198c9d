"""The contract of every encoder: one modality in, tokens and a mask out."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from encoders.preprocessing import Arrays, Preprocessor


@dataclass(frozen=True)
class Provenance:
    """Origin of an encoder's weights."""

    weights: str
    """"random", "pretrained", or the file, folder, hub id or run that was given."""
    sha256: str | None = None
    """Of the weight file; None for random weights."""
    licence: str = "unknown"


class Encoder(nn.Module, ABC):
    """Turns the arrays of one modality into tokens ``[b l d]`` and a mask ``[b l]`` (True = real).

    A subclass sets ``modality``, ``embed_dim`` and ``preprocessor`` in its ``__init__``, after
    ``super().__init__()``. A pooled encoder returns ``l = 1``. Parameters that the tokens do not depend on
    have no place in an encoder: remove them when it is built.

    Legend: b records, l tokens of one input, d the encoder's dim.
    """

    modality: str
    embed_dim: int
    preprocessor: Preprocessor
    ignores_padding: bool = True
    """False where the original model was trained without a mask, so that padding changes its tokens."""

    name: str = ""
    """Registered name; set by ``create_encoder``, as are the next two where the encoder leaves them as they are."""
    arguments: dict[str, Any]
    """JSON arguments that rebuild the architecture; those that ``create_encoder`` was given."""
    provenance: Provenance = Provenance("random")

    def __init__(self) -> None:
        super().__init__()
        self.arguments = {}

    @abstractmethod
    def forward(self, inputs: dict[str, Tensor]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """Encodes what ``preprocessor.stack`` returned; a ``present`` entry is ignored."""

    @abstractmethod
    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Parameters by depth, the input side first; every parameter exactly once."""

    def architecture(self) -> dict[str, Any]:
        """JSON arguments with which ``create_encoder(name, weights=None, ...)`` rebuilds this architecture."""
        return dict(self.arguments)


def all_real(tokens: Float[Tensor, "b l d"]) -> Bool[Tensor, "b l"]:
    """The mask of tokens that are all real."""
    return torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)


def tensors_of(encoder: Encoder, batch: Arrays) -> dict[str, Tensor]:
    """A batch on the encoder's device."""
    held = [*encoder.parameters(), *encoder.buffers()]
    device = held[0].device if held else torch.device("cpu")
    return {name: torch.from_numpy(array).to(device) for name, array in batch.items()}


def blank_tokens(encoder: Encoder) -> Float[Tensor, "1 l d"]:
    """Tokens of a missing value."""
    blank = encoder.preprocessor.stack([encoder.preprocessor.blank()])
    return encoder(tensors_of(encoder, blank))[0]


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; afterwards every submodule has the mode that it had."""
    modes = [(child, child.training) for module in modules for child in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for child, mode in modes:
            child.training = mode
