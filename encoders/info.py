"""Facts of an encoder that are known without importing it, and the line that names a missing package."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from encoders.base import Encoder

BUILT_IN_MODALITIES = ("image", "text", "audio")
EXTRAS = {"timm": "timm", "peft": "lora"}
"""Packages that the extra ``train`` does not bring -> the extra that does."""
TRAIN_PACKAGES = ("torch", "torchvision", "torchaudio", "transformers", "safetensors", "jaxtyping")
Weights = str | Path | None
Factory = Callable[..., "Encoder"]


@dataclass(frozen=True)
class EncoderInfo:
    """Facts about an encoder that are known without importing it."""

    name: str
    """A name that ends in ``*`` stands for a family: ``transformers/*`` takes any hub id or local folder."""
    modality: str
    """"any" stands for image, text or audio, as the model that is named decides."""
    embed_dim: int | None = None
    """Dimension of its tokens; None where it depends on the weights."""
    source: str = "unknown"
    """The package or distribution that the architecture and the weights come from."""
    licence: str = "unknown"
    """Licence of the registry's own weights; "none" where there are none."""
    paper: str = ""
    has_weights: bool = False
    """True if ``weights="pretrained"`` gives something."""
    ignores_padding: bool = True
    """False where the original was trained without a mask, so that padding changes its tokens."""
    parameters: int | None = None
    """Number of parameters without a classifier; None where it depends on the weights."""
    trains: bool = True
    """False where it has no gradients, so that it stays frozen under any strategy."""
    learning_rate_scale: float = 0.1
    """Factor on the job's learning rate that suits fine-tuning its weights."""


def missing_extra(error: ModuleNotFoundError, extra: str = "") -> ModuleNotFoundError:
    """The one line that names the command for a missing package.

    Args:
        extra: that brings it; left out: the one of ``EXTRAS``, else "train".

    >>> print(missing_extra(ModuleNotFoundError(name="torch")))
    torch is not installed; run: pip install 'multimodal-transfer[train]'
    """
    extra = extra or EXTRAS.get(str(error.name), "train")
    line = f"{error.name} is not installed; run: pip install 'multimodal-transfer[{extra}]'"
    return ModuleNotFoundError(line, name=error.name)
