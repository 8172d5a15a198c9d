"""Image encoders of timm: any of its models that has ``forward_features``."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from encoders.base import Provenance
from encoders.image.layers import Normalize
from encoders.image.model import ImageModelEncoder
from encoders.image.timm_weights import build_timm_model, published_weights, read_weights
from encoders.info import Weights
from encoders.parameter_order import depth_order
from encoders.preprocessing.base import whole_number
from encoders.preprocessing.image import ImagePreprocessor, Resize
from encoders.weights.state import digest_of_files, fit_state

CROP_MODES: dict[str, Resize] = {"center": "crop", "squash": "squash"}


def timm_encoder(
    *, name: str, weights: Weights = None, image_size: int | None = None, version: str | None = None
) -> ImageModelEncoder:
    """A model of timm (Wightman, https://github.com/huggingface/pytorch-image-models): ``timm/<model name>``.

    Args:
        weights: "pretrained" (those of ``version``), a state_dict file, a folder, a hub id, or None.
        image_size: pixels a side; None takes that of the published weights. The border that is cut off after
            resizing keeps its share.
        version: of the published weights, whose preprocessing is taken over: timm's tag, e.g. "a1_in1k", which
            may stand in the name, too (``timm/resnet18.a1_in1k``). None takes timm's default.

    Raises:
        LookupError: if timm has no such model or version.
        ValueError: if the model cannot be an encoder, or size or weights do not suit it.
        FileNotFoundError: if the weights are not there.
    """
    published = published_weights(name, version)
    preprocessor, normalize = _preprocessing(name, published, image_size)
    found = read_weights(name, weights, published)
    model = build_timm_model(name, published, preprocessor.crop, found)
    _adapt(model)
    encoder = ImageModelEncoder(
        model,
        _features,
        preprocessor,
        normalize,
        channels=model.num_features,
        order=_order,
        options={"image_size": preprocessor.crop, "version": published.get("tag") or None},
    )
    if found is not None:
        if found.is_own:
            fit_state(encoder, found.state, found.asked)
        encoder.provenance = Provenance(found.asked, digest_of_files(found.files), found.licence)
    return encoder


def _preprocessing(
    name: str, published: Mapping[str, Any], image_size: int | None
) -> tuple[ImagePreprocessor, Normalize]:
    """Preprocessing that the published weights are evaluated with, at another size where one is asked for."""
    from timm.data import resolve_data_config

    data = resolve_data_config(pretrained_cfg=published)
    _, height, width = data["input_size"]
    if data["crop_mode"] not in CROP_MODES or height != width:
        raise ValueError(
            f"{name} wants images of {height} x {width} pixels, cut by {data['crop_mode']!r}; images here are "
            "square, cut by 'center' or 'squash': give another model"
        )
    crop = height if image_size is None else whole_number("image_size", image_size)
    preprocessor = ImagePreprocessor(
        math.floor(crop / data["crop_pct"]),
        crop=crop,
        resize=CROP_MODES[data["crop_mode"]],
        interpolation=data["interpolation"],
    )
    return preprocessor, Normalize(data["mean"], data["std"])


def _adapt(model: Any) -> None:
    """Switches off what stands in the way of training or of an exported graph."""
    for module in model.modules():
        if hasattr(module, "attention_bias_cache"):
            module.attention_bias_cache = _NoCache()
        if type(model).__name__ == "MaxxVit" and hasattr(module, "fused_attn"):
            module.fused_attn = False  # torch.onnx.export trips over the strides of its result (torch 2.14)


class _NoCache(dict[str, Any]):
    """Takes the place of LeViT's and its kin's cache of attention biases, which they keep in eval mode.

    From there a bias has no gradient, and stays what it was when other weights are loaded.
    """

    def __contains__(self, _: object) -> bool:
        return False

    def __bool__(self) -> bool:
        return False  # theirs replaces a cache that holds something


def _features(model: Any, x: Any) -> Any:
    return model.forward_features(x)


def _order(model: Any, run: Callable[[], object]) -> list[list[str]]:
    """By the depth that timm itself gives each parameter for layer-wise learning rates, where it does."""
    from timm.models import group_parameters

    if not hasattr(model, "group_matcher"):
        return depth_order(model, run)
    groups = group_parameters(model, model.group_matcher(coarse=False))
    return [groups[depth] for depth in sorted(groups)]
