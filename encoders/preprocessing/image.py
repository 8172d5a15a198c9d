"""Pixels of one size, from any image. Never imports torch."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from encoders.preprocessing.base import Arrays, TensorSpec, config_arguments, stack_arrays, whole_number
from encoders.preprocessing.image_files import MAX_PIXELS, decode_image

Resize = Literal["crop", "squash"]
Interpolation = Literal["bilinear", "bicubic"]
CropRounding = Literal["even", "down"]
SETTINGS = ("size", "crop", "resize", "interpolation", "crop_rounding")


class ImagePreprocessor:
    """Pixels of one size, antialiased.

    The values are those of torchvision's v2 transforms on PIL images; on tensors theirs differ by one grey level,
    and by a few more where bicubic overshoots next to black or white.

    Normalisation is not done here: it is part of the exported graph.

    Args:
        size: pixels of the shorter side after resizing; with "squash", of both sides.
        crop: pixels of the square that is cut from the centre; None keeps ``size``.
        resize: "crop" keeps the shape of things and loses the ends of the longer side; "squash" keeps
            everything and loses the shape.
        interpolation: always with antialiasing.
        crop_rounding: where the centre lies between two pixels. "even" takes the even one of both offsets, as
            torchvision and timm do; "down" the smaller one, as transformers does.

    >>> ImagePreprocessor(4)(np.zeros((20, 30, 3), np.uint8))["pixels"].shape
    (3, 4, 4)

    Raises:
        ValueError: if an argument is out of its range.
    """

    modality: str = "image"
    tensors: tuple[TensorSpec, ...]

    def __init__(
        self,
        size: int,
        *,
        crop: int | None = None,
        resize: Resize = "crop",
        interpolation: Interpolation = "bilinear",
        crop_rounding: CropRounding = "even",
    ) -> None:
        self.size = whole_number("size", size)
        self.crop = self.size if crop is None else whole_number("crop", crop)
        if self.crop > self.size:
            raise ValueError(f"crop is {crop} but size is {size}; crop at most what resizing leaves")
        self.resize = _one_of("resize", resize, get_args(Resize))
        self.interpolation = _one_of("interpolation", interpolation, get_args(Interpolation))
        self.crop_rounding = _one_of("crop_rounding", crop_rounding, get_args(CropRounding))
        self.tensors = (TensorSpec("pixels", "uint8", ("batch", 3, self.crop, self.crop)),)

    def __call__(self, raw: Any) -> Arrays:
        """``pixels`` uint8 ``[3, h, w]`` of one image; see ``decode_image`` for what is taken."""
        pixels = np.asarray(self._resized(decode_image(raw)))
        return {"pixels": np.ascontiguousarray(pixels.transpose(2, 0, 1))}

    def _resized(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        wide = high = self.size
        if self.resize == "crop" and width < height:
            high = self.size * height // width
        elif self.resize == "crop":
            wide = self.size * width // height
        left, top = self._offset(wide), self._offset(high)
        right, bottom = left + self.crop, top + self.crop
        interpolation = Image.Resampling[self.interpolation.upper()]
        if wide * high <= MAX_PIXELS:
            return image.resize((wide, high), interpolation).crop((left, top, right, bottom))
        # a hair of 60,000 x 1 pixels would become gigabytes: make only what is kept
        x, y = width / wide, height / high
        kept = (left * x, top * y, min(right * x, width), min(bottom * y, height))
        return image.resize((self.crop, self.crop), interpolation, box=kept)

    def _offset(self, length: int) -> int:
        """First pixel of the crop of a side."""
        spare = length - self.crop
        return round(spare / 2) if self.crop_rounding == "even" else spare // 2  # round() goes to the even one

    def blank(self) -> Arrays:
        """A black image."""
        return {"pixels": np.zeros((3, self.crop, self.crop), np.uint8)}

    def stack(self, samples: Sequence[Arrays]) -> Arrays:
        """``pixels`` uint8 ``[b, 3, h, w]``."""
        return stack_arrays(samples, self.tensors, {})

    def to_config(self) -> dict[str, Any]:
        """JSON that ``from_config`` takes."""
        return {"kind": "image", **{name: getattr(self, name) for name in SETTINGS}}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], assets: Mapping[str, str]) -> "ImagePreprocessor":
        """Rebuilds it; refuses unknown keys."""
        return cls(**config_arguments("image", config, SETTINGS, required=["size"]))


def _one_of(name: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; give one of {', '.join(choices)}")
    return value
