"""``transformers/<hub id or folder>``: finds out which modality a model reads, and calls its builder."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from encoders.base import Encoder
from encoders.info import Weights
from encoders.transformers.loading import FAMILY, read_config
from encoders.weights.hub import locate

Tower = Literal["text", "image", "audio"]

IMAGE_TYPES = frozenset(
    {"vit", "deit", "beit", "dinov2", "dinov2_with_registers", "swin", "swinv2", "convnext", "convnextv2"}
    | {"clip_vision_model", "siglip_vision_model", "siglip2_vision_model"}
)
AUDIO_TYPES = frozenset({"wav2vec2", "hubert", "wavlm", "audio-spectrogram-transformer", "whisper", "clap_audio_model"})
TOWERS: dict[str, tuple[Tower, ...]] = {
    "clip": ("image", "text"),
    "siglip": ("image", "text"),
    "siglip2": ("image", "text"),
    "clap": ("audio", "text"),
}
"""Models of two modalities: the user says which tower is meant."""

BUILDERS: dict[str, str] = {
    "text": "encoders.text.transformers:transformers_text",
    "image": "encoders.image.transformers:transformers_image",
    "audio": "encoders.audio.transformers:transformers_audio",
}


def transformers_encoder(
    *,
    name: str,
    weights: Weights = None,
    tower: Tower | None = None,
    config: Mapping[str, Any] | None = None,
    **options: Any,
) -> Encoder:
    """An encoder by hub id or local folder. Never runs a model's own code.

    Args:
        weights: "pretrained" (those of that id or folder); None; a state_dict file; or another id or folder, which
            then brings its config, too.
        tower: which tower of a model of two modalities, as CLIP is.
        config: of the architecture, instead of the folder's ``config.json``.
        **options: of the modality's builder.

    Raises:
        FileNotFoundError: if the model is neither here nor can be fetched.
        ValueError: if ``tower`` is missing, or given where there is nothing to choose.
    """
    if config is None:
        config = read_config(locate(_source(name, weights), with_weights=False))
        given: dict[str, Any] = {}
    else:
        given = {"config": config}
    kind = str(config.get("model_type"))
    towers = TOWERS.get(kind)
    if towers is not None and tower not in towers:
        raise ValueError(f"{name} is a {kind} model; give tower={' or tower='.join(map(repr, towers))}, not {tower!r}")
    if towers is None and tower is not None:
        raise ValueError(f"{name} is a {kind} model of one modality; leave tower={tower!r} out")
    if tower is not None:
        given["tower"] = tower
    module, function = BUILDERS[tower or modality_of(kind)].split(":")
    return getattr(importlib.import_module(module), function)(name=name, weights=weights, **given, **options)


def modality_of(kind: str) -> Tower:
    """Modality and builder of a model of this ``model_type``.

    >>> modality_of("bert"), modality_of("vit"), modality_of("hubert")
    ('text', 'image', 'audio')
    """
    if kind in IMAGE_TYPES:
        return "image"
    return "audio" if kind in AUDIO_TYPES else "text"


def _source(name: str, weights: Weights) -> str:
    own = name.removeprefix(FAMILY)
    return own if weights in (None, "pretrained") or Path(str(weights)).is_file() else str(weights)
