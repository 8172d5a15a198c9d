"""Image encoders of the library transformers: any hub id or local folder."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from encoders.image.layers import Normalize
from encoders.image.model import Features, ImageModelEncoder
from encoders.image.processor_config import image_preprocessing
from encoders.info import Weights
from encoders.parameter_order import depth_order
from encoders.preprocessing.image import ImagePreprocessor
from encoders.transformers.loading import (
    base_class,
    config_to_json,
    find_checkpoint,
    load_model,
    make_config,
    note_weights,
    read_config,
    read_part,
    tower_config,
)
from encoders.weights.hub import locate

_ADVICE = "give an image encoder, for example transformers/google/vit-base-patch16-224"
EAGER = ("beit", "swin")
"""Their biases in fused attention make torch.onnx.export trip over the strides of its result (torch 2.14)."""


def transformers_image(
    *,
    name: str,
    weights: Weights = None,
    tower: Literal["image"] | None = None,
    pooling: Literal["tokens", "projected"] = "tokens",
    config: Mapping[str, Any] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
) -> ImageModelEncoder:
    """An image encoder by hub id or local folder: ``transformers/<id or folder>``. Never runs a model's own code.

    Args:
        weights: "pretrained" (those of that id or folder); None; a state_dict file; or another id or folder, which
            then brings its config and preprocessing, too.
        tower: "image" for the image tower of a model of two modalities.
        pooling: "tokens", the last hidden states; or, of an image tower, "projected": the embedding that it shares with
            the other tower, as the only token.
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
        settings = tower_config(settings, tower)
    kind = str(settings.get("model_type"))
    if kind.startswith("siglip2"):
        raise ValueError(
            f"{name} reads as many patches as an image's shape asks for (NaFlex), which is not supported; give a "
            "SigLIP 2 of one resolution, for example google/siglip2-base-patch16-224"
        )
    made = make_config(name, settings, _ADVICE)
    state = read_part(files) if files else None
    source_file = str(files[0]) if files else ""
    model_class, features = _what_gives(name, made, pooling)
    model, missing = load_model(name, model_class, made, state, source=source_file)
    if kind in EAGER:
        model.set_attn_implementation("eager")
    if preprocessing is None:
        preprocessor, normalize = image_preprocessing(name, locate(source, with_weights=False), kind)
    else:
        preprocessor = ImagePreprocessor.from_config(preprocessing["pixels"], {})
        normalize = Normalize(preprocessing["mean"], preprocessing["std"])
    encoder = ImageModelEncoder(
        model,
        features,
        preprocessor,
        normalize,
        channels=(getattr(model.config, "hidden_sizes", None) or [model.config.hidden_size])[-1],
        order=depth_order,
        options={"config": config_to_json(model), "preprocessing": _to_json(preprocessor, normalize)}
        | ({"pooling": pooling} if pooling != "tokens" else {}),
    )
    note_weights(encoder, name, weights, files, licence, missing=missing)
    return encoder


def _what_gives(name: str, config: Any, pooling: str) -> tuple[Any, Features]:
    """The class of transformers, and what calls it."""
    if pooling == "tokens":
        return base_class(name, config, _ADVICE), _features
    if pooling != "projected" or config.model_type not in IMAGE_TOWERS:
        raise ValueError(
            f"{name}: pooling is {pooling!r} for a {config.model_type} model; give 'tokens', or 'projected' for the "
            "image tower of a CLIP or SigLIP"
        )
    import transformers

    model_class, embedding = IMAGE_TOWERS[config.model_type]
    return getattr(transformers, model_class), partial(_features, embedding=embedding)


def _features(model: Any, x: Float[Tensor, "b 3 h w"], embedding: str = "") -> Tensor:
    """Last hidden states; or the embedding that this field of the output holds, as the only token, not normalised."""
    output = model(pixel_values=x)
    return getattr(output, embedding)[:, None] if embedding else output.last_hidden_state


def _to_json(preprocessor: ImagePreprocessor, normalize: Normalize) -> dict[str, Any]:
    mean, std = normalize.mean.flatten().tolist(), normalize.std.flatten().tolist()
    return {"pixels": preprocessor.to_config(), "mean": mean, "std": std}


IMAGE_TOWERS = {
    "clip_vision_model": ("CLIPVisionModelWithProjection", "image_embeds"),
    "siglip_vision_model": ("SiglipVisionModel", "pooler_output"),
}
"""The tower's ``model_type`` -> class of transformers that gives the embedding, and field of its output that holds it;
``encoders.text.towers`` has the papers."""
