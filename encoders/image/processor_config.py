"""``preprocessor_config.json`` of transformers' image models, as a preprocessor of ours."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from encoders.image.layers import Normalize
from encoders.preprocessing.image import ImagePreprocessor, Interpolation
from encoders.transformers.loading import read_features
from encoders.weights.hub import FEATURE_FILES

PROCESSORS = {
    "vit": "ViT",
    "deit": "DeiT",
    "beit": "Beit",
    "dinov2": "Bit",
    "dinov2_with_registers": "Bit",
    "swin": "ViT",
    "swinv2": "ViT",
    "convnext": "ConvNext",
    "convnextv2": "ConvNext",
    "clip_vision_model": "CLIP",
    "siglip_vision_model": "Siglip",
}
"""Model type -> its processor, where the file does not name one."""

SHORTEST_EDGE = ("Bit", "CLIP", "ConvNext")
"""Processors that take a plain number as the size of the shorter side; the others take it for both sides."""
CROPPING = ("Bit", "CLIP", "DeiT")
"""Processors that cut the centre out unless they are told not to."""
INTERPOLATIONS: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers."""
UNSUPPORTED = (
    "do_pad",
    "do_flip_channel_order",
    "do_grayscale",
    "do_image_splitting",
    "do_thumbnail",
    "rescale_offset",
)

_CLASS = re.compile(r"(ImageProcessor(Fast|Pil)?|FeatureExtractor)$")


def image_preprocessing(name: str, folder: Path, model_type: str) -> tuple[ImagePreprocessor, Normalize]:
    """Preprocessing and normalisation that a model folder describes.

    Raises:
        FileNotFoundError: if it says nothing.
        ValueError: if the file is damaged, or wants what our preprocessor does not do.
    """
    settings = read_features(folder, "image_processor")
    if settings is None:
        raise FileNotFoundError(
            f"{folder} holds no {FEATURE_FILES[0]}, so that nothing says how images are prepared; write one with "
            "transformers.AutoImageProcessor.from_pretrained(MODEL).save_pretrained(FOLDER)"
        )
    return converted(name, settings, model_type)


def converted(name: str, settings: Mapping[str, Any], model_type: str) -> tuple[ImagePreprocessor, Normalize]:
    """Our preprocessor and normalisation for these settings.

    Raises:
        ValueError: if they want what these do not do; says what.
    """
    given = settings.get("image_processor_type") or settings.get("feature_extractor_type") or ""
    kind = _CLASS.sub("", given) or PROCESSORS.get(model_type, "")
    if kind not in PROCESSORS.values():
        raise _unsupported(name, f"the processor {given!r} of a {model_type}", sorted(set(PROCESSORS.values())))
    for setting in UNSUPPORTED:
        if settings.get(setting):
            raise _unsupported(name, f"{setting}={settings[setting]!r}", ["none of it"])
    if not settings.get("do_resize", True):
        raise _unsupported(name, "do_resize=False", ["images resized to one size"])
    resample = settings.get("resample", 2 if kind == "ViT" else 3)
    if resample not in INTERPOLATIONS:
        raise _unsupported(name, f"resample={resample!r}", [f"{n} ({way})" for n, way in INTERPOLATIONS.items()])
    geometry = _geometry(name, kind, settings)
    preprocessor = ImagePreprocessor(**geometry, interpolation=INTERPOLATIONS[resample], crop_rounding="down")
    return preprocessor, _normalize(name, settings)


def _geometry(name: str, kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ImagePreprocessor: size, crop, resize."""
    size = settings.get("size")
    if isinstance(size, int):
        size = {"shortest_edge": size} if kind in SHORTEST_EDGE else {"height": size, "width": size}
    cropped = settings.get("do_center_crop", kind in CROPPING)
    crop = _square(settings.get("crop_size")) if cropped else None
    if isinstance(size, dict) and not (cropped and crop is None):
        side, shortest = _square(size), _shortest(size)
        if side is not None:
            return {"size": side, "crop": crop, "resize": "squash"}
        if shortest is not None and crop is not None:
            return {"size": shortest, "crop": crop, "resize": "crop"}
        if shortest is not None and kind == "ConvNext":
            return _convnext(shortest, settings.get("crop_pct") or 224 / 256)
    said = {key: settings.get(key) for key in ("size", "do_center_crop", "crop_size")}
    raise _unsupported(name, str(said), ["one square size for all images, after cutting out the centre if need be"])


def _convnext(size: int, crop_pct: float) -> dict[str, Any]:
    """From 384 pixels on, ConvNeXt sees the whole image (transformers' ConvNextImageProcessor)."""
    if size >= 384:
        return {"size": size, "resize": "squash"}
    return {"size": int(size / crop_pct), "crop": size, "resize": "crop"}


def _square(size: Any) -> int | None:
    if isinstance(size, int):
        return size
    if isinstance(size, dict) and set(size) == {"height", "width"} and size["height"] == size["width"]:
        return int(size["height"])
    return None


def _shortest(size: Mapping[str, Any]) -> int | None:
    given = {key: value for key, value in size.items() if value is not None}
    return int(given["shortest_edge"]) if set(given) == {"shortest_edge"} else None


def _normalize(name: str, settings: Mapping[str, Any]) -> Normalize:
    """(pixels * factor - mean) / std, for pixels / 255."""
    factor = 255 * settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 255.0
    mean, std = [0.0] * 3, [1.0] * 3
    if settings.get("do_normalize", True):
        mean, std = settings.get("image_mean", ()), settings.get("image_std", ())
    if len(mean) != 3 or len(std) != 3:
        raise _unsupported(name, f"image_mean={mean}, image_std={std}", ["three numbers each"])
    return Normalize([value / factor for value in mean], [value / factor for value in std])


def _unsupported(name: str, given: str, allowed: list[str]) -> ValueError:
    return ValueError(
        f"{name} wants {given} for its images, which is not supported; supported: {', '.join(allowed)}. Write a "
        f"{FEATURE_FILES[0]} with such settings into a copy of its folder, or take another model"
    )
