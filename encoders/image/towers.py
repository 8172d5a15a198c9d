"""The image towers of CLIP and SigLIP: the embedding that each shares with the text tower."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


def image_tower_config(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the image tower of a model of two modalities.

    >>> image_tower_config({"model_type": "clip", "projection_dim": 8, "vision_config": {"hidden_size": 4}})
    {'hidden_size': 4, 'projection_dim': 8, 'model_type': 'clip_vision_model'}
    """
    # what both towers share stands in the config around them
    shared = {key: settings[key] for key in ("projection_dim",) if key in settings}
    return {**(settings.get("vision_config") or {}), **shared, "model_type": f"{settings['model_type']}_vision_model"}


def clip_embedding(model: nn.Module, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 d"]:
    """That of CLIP, not normalised, as the only token."""
    return model(pixel_values=images).image_embeds[:, None]


def siglip_embedding(model: nn.Module, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 d"]:
    """That of SigLIP, not normalised, as the only token."""
    return model(pixel_values=images).pooler_output[:, None]


IMAGE_TOWERS = {
    "clip_vision_model": ("CLIPVisionModelWithProjection", clip_embedding),
    "siglip_vision_model": ("SiglipVisionModel", siglip_embedding),
}
"""The tower's ``model_type`` -> class of transformers that gives the embedding, and what takes it from its output;
``encoders.text.towers`` has the papers."""
