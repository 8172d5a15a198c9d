"""Image encoders of the library transformers: any hub id or local folder."""

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from encoders.base import Provenance
from encoders.dependence import depth_order
from encoders.hub import locate
from encoders.image.layers import Normalize
from encoders.image.model import ImageModelEncoder
from encoders.image.processor_config import image_preprocessing
from encoders.preprocessing.image import ImagePreprocessor
from encoders.registry import Weights
from encoders.transformers_loading import (
    base_class,
    config_to_json,
    find_checkpoint,
    load_model,
    make_config,
    read_config,
    read_part,
)
from encoders.weights import sha256_of, state_mismatch

_ADVICE = "give an image encoder, for example transformers/google/vit-base-patch16-224"
EAGER = ("beit", "swin")
"""Their biases in fused attention make torch.onnx.export trip over the strides of its result (torch 2.14)."""


def transformers_image(
    *,
    name: str,
    weights: Weights = None,
    tower: Literal["image"] | None = None,
    config: Mapping[str, Any] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
) -> ImageModelEncoder:
    """An image encoder by hub id or local folder: ``transformers/<id or folder>``. Never runs a model's own code.

    Args:
        weights: "pretrained" (those of that id or folder); None; a state_dict file; or another id or folder, which
            then brings its config and preprocessing, too.
        tower: "image" for the image half of a model of two modalities.
        config: of the architecture, instead of the folder's ``config.json``.
        preprocessing: ``{"pixels": config of an ImagePreprocessor, "mean": [...], "std": [...]}``, instead of the
            folder's ``preprocessor_config.json``.

    Raises:
        FileNotFoundError: if the model is neither here nor can be fetched.
        ValueError: if it is no image encoder, or weights, config or preprocessing do not suit it.
    """
    source, files, licence = find_checkpoint(name, weights)
    settings = config if config is not None else read_config(locate(source, with_weights=False))
    if tower is not None:
        settings = _tower(settings)
    kind = str(settings.get("model_type"))
    if kind.startswith("siglip2"):
        raise ValueError(
            f"{name} reads as many patches as a picture's shape asks for (NaFlex), which is not supported; give a "
            "SigLIP 2 of one resolution, for example google/siglip2-base-patch16-224"
        )
    made = make_config(name, settings, _ADVICE)
    state = read_part(files) if files else None
    source_file = str(files[0]) if files else ""
    model, missing = load_model(name, base_class(name, made, _ADVICE), made, state, source=source_file)
    if kind in EAGER:
        model.set_attn_implementation("eager")
    if preprocessing is None:
        preprocessor, normalize = image_preprocessing(name, locate(source, with_weights=False), kind)
    else:
        preprocessor = ImagePreprocessor.from_config(preprocessing["pixels"], {})
        normalize = Normalize(preprocessing["mean"], preprocessing["std"])
    encoder = ImageModelEncoder(
        model,
        _features,
        preprocessor,
        normalize,
        channels=_channels(model.config),
        order=depth_order,
        options={"config": config_to_json(model), "preprocessing": _to_json(preprocessor, normalize)},
    )
    lost = missing & {name for name, _ in model.named_parameters()}
    if lost:
        raise state_mismatch(f"{name}: what {weights} holds", missing=lost)
    if weights is not None:
        encoder.provenance = Provenance(str(weights), sha256_of(files), licence)
    return encoder


def _tower(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The image half of the config of a model of two modalities."""
    return {"model_type": f"{settings['model_type']}_vision_model", **settings.get("vision_config", {})}


def _channels(config: Any) -> int:
    """Width of the last hidden states: of the last stage, where each has its own."""
    widths = getattr(config, "hidden_sizes", None)
    return widths[-1] if widths else config.hidden_size


def _features(model: Any, x: Tensor) -> Tensor:
    return model(pixel_values=x).last_hidden_state


def _to_json(preprocessor: ImagePreprocessor, normalize: Normalize) -> dict[str, Any]:
    mean, std = normalize.mean.flatten().tolist(), normalize.std.flatten().tolist()
    return {"pixels": preprocessor.to_config(), "mean": mean, "std": std}
