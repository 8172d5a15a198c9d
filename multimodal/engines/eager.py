"""An encoder in torch, as it is or laid out for convolutions."""

import copy
from typing import Protocol

import torch
from torch import Tensor, nn

from encoders.base import Encoder
from multimodal.model.modes import evaluating


class Engine(Protocol):
    """Arrays of a batch -> tokens [b l d] and mask [b l], as the encoder gives them in eval mode."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    def __call__(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Encodes a batch."""
        ...


class EagerEngine:
    """The encoder itself, on its device: what every other engine is compared with."""

    def __init__(self, encoder: Encoder, name: str = "torch eager") -> None:
        self.encoder, self.name = encoder, name
        first = next(encoder.parameters(), torch.zeros(0))
        self.device = first.device

    def __call__(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Encodes a batch, without gradients."""
        with torch.inference_mode(), evaluating(self.encoder):
            tokens, mask = self.encoder({name: tensor.to(self.device) for name, tensor in inputs.items()})
            return tokens, mask


def channels_last(encoder: Encoder) -> EagerEngine | None:
    """A copy whose pictures lie pixel by pixel, which CPUs convolve sooner; None where it convolves no pictures."""
    if not any(isinstance(module, nn.Conv2d) for module in encoder.modules()):
        return None
    copied = copy.deepcopy(encoder).to(memory_format=torch.channels_last)
    return EagerEngine(copied, "torch channels last")
