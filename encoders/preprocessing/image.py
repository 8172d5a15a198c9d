"""Pictures: from whatever people store to upright RGB, then to pixels of one size. Never imports torch."""

import io
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image, ImageFile

from encoders.preprocessing.base import (
    Arrays,
    TensorSpec,
    UnreadableValueError,
    config_arguments,
    stack_arrays,
    whole_number,
)
from encoders.preprocessing.files import file_name, is_file_value, open_file

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_BYTES = 20_000_000
MAX_PIXELS = 40_000_000
MAX_SIDE = 65_535  # JPEG's own; resizing needs memory in proportion to the longest side

ORIENTATION_TAG = 0x0112
_T = Image.Transpose
# EXIF 2.32, table "Orientation": how the stored picture is turned to stand upright
_UPRIGHT = {
    2: _T.FLIP_LEFT_RIGHT,
    3: _T.ROTATE_180,
    4: _T.FLIP_TOP_BOTTOM,
    5: _T.TRANSPOSE,
    6: _T.ROTATE_270,
    7: _T.TRANSVERSE,
    8: _T.ROTATE_90,
}
_process_settings = threading.Lock()

Resize = Literal["crop", "squash"]
Interpolation = Literal["bilinear", "bicubic"]


def decode_image(raw: Any) -> Image.Image:
    """An upright RGB picture, from a path, bytes, a PIL image or a uint8 array ``[h, w, 3]``.

    EXIF orientation is applied; transparency becomes white; 16 bits a channel become 8 by keeping the high
    byte; colour profiles are ignored. Files are JPEG, PNG or WebP with one frame (of a phone's multi-picture
    JPEG the main one is taken), at most 20 MB and 40 megapixels, which is checked before decoding.

    >>> decode_image(np.zeros((2, 3, 3), np.uint8)).size
    (3, 2)

    Raises:
        UnreadableValueError: if the value is none of these, is damaged or exceeds a limit.
    """
    if isinstance(raw, np.ndarray):
        return _from_array(raw)
    if isinstance(raw, Image.Image):
        return _decode(raw, "the given picture")
    if not is_file_value(raw):
        raise UnreadableValueError(
            f"a picture cannot be a {type(raw).__name__}; give a path, bytes, a PIL image or a uint8 array [h, w, 3]"
        )
    name = file_name(raw)
    with open_file(raw) as file, _open(_read(file, name), name) as image:
        return _decode(image, name)


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise UnreadableValueError(
            f"a picture cannot be an array of {array.dtype} {list(array.shape)}; give uint8 [h, w, 3], RGB in 0..255"
        )
    _check_size((array.shape[1], array.shape[0]), "the given array")
    return Image.fromarray(np.ascontiguousarray(array))


def _read(file: Any, name: str) -> bytes:
    try:
        data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableValueError(f"{name}: cannot be read ({error}); check the disk or copy it again") from error
    if len(data) > MAX_BYTES:
        raise UnreadableValueError(f"{name}: is larger than {MAX_BYTES // 10**6} MB; save it smaller")
    if not data:
        raise UnreadableValueError(f"{name}: is empty (0 bytes); copy it again")
    return data


def _open(data: bytes, name: str) -> Image.Image:
    """Reads the header only; the pixels are decoded when they are loaded."""
    try:
        with _without_warnings():
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise UnreadableValueError(f"{name}: {error}; {_SIZE_LIMIT}") from error
    except Exception as error:  # Pillow lets through whatever its parsers trip over (struct, zlib, index, ...)
        raise UnreadableValueError(f"{name}: is not a readable JPEG, PNG or WebP file; convert it to one") from error


def _decode(image: Image.Image, name: str) -> Image.Image:
    _check_size(image.size, name)
    try:
        with _without_warnings():
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if frames == 1:
            _load(image)
            turn = _turn(image)
            return _to_rgb(image if turn is None else image.transpose(turn), name)
    except UnreadableValueError:
        raise
    except Exception as error:  # as in _open
        raise UnreadableValueError(f"{name}: is damaged ({error}); copy it again or leave the record out") from error
    raise UnreadableValueError(f"{name}: is animated ({frames} frames); save one frame of it as a file of its own")


_SIZE_LIMIT = f"at most {MAX_PIXELS // 10**6} megapixels and {MAX_SIDE} pixels a side are read, save it smaller"


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS or max(size) > MAX_SIDE:
        raise UnreadableValueError(f"{name}: has {width} x {height} pixels; {_SIZE_LIMIT}")
    if width * height == 0:
        raise UnreadableValueError(f"{name}: has {width} x {height} pixels; give a picture that is not empty")


def _load(image: Image.Image) -> None:
    """Decodes the pixels; a truncated file is an error also where a library told Pillow to fill it with grey."""
    if not ImageFile.LOAD_TRUNCATED_IMAGES:
        image.load()
        return
    with _process_settings:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            image.load()
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = True


def _turn(image: Image.Image) -> Image.Transpose | None:
    with _without_warnings():
        try:
            return _UPRIGHT.get(image.getexif().get(ORIENTATION_TAG, 1))
        except Exception:  # damaged EXIF says nothing about the pixels, and readers agree to show them as stored
            return None


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """RGB without metadata: an orientation that stayed would be applied a second time."""
    if image.mode.startswith("I;16"):
        return _from_16_bit(image)
    if image.mode in ("I", "F"):  # only pictures in memory: no PNG is read as one
        raise UnreadableValueError(
            f"{name}: has Pillow's mode {image.mode!r}, whose range is not known; scale it to 8 bits, mode 'L'"
        )
    if not image.has_transparency_data:
        rgb = image.convert("RGB")
        rgb.info = {}
        return rgb
    rgba = image.convert("RGBA")
    rgb = Image.new("RGB", image.size, "white")
    rgb.paste(rgba, mask=rgba.getchannel("A"))
    return rgb


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, which Pillow's own conversion would clip at 255."""
    values = np.asarray(image)
    grey = (values >> 8).astype(np.uint8)  # the high byte, as Pillow takes it from 16-bit RGB
    grey[values == image.info.get("transparency", -1)] = 255
    return Image.fromarray(grey).convert("RGB")


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silences Pillow about what is checked here; the filters are the process's, so one thread at a time."""
    with _process_settings, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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
    ) -> None:
        self.size = whole_number("size", size)
        self.crop = self.size if crop is None else whole_number("crop", crop)
        if self.crop > self.size:
            raise ValueError(f"crop is {crop} but size is {size}; crop at most what resizing leaves")
        if resize not in get_args(Resize):
            raise ValueError(f"resize is {resize!r}; give one of {', '.join(get_args(Resize))}")
        if interpolation not in get_args(Interpolation):
            raise ValueError(f"interpolation is {interpolation!r}; give one of {', '.join(get_args(Interpolation))}")
        self.resize = resize
        self.interpolation = interpolation
        self.tensors = (TensorSpec("pixels", "uint8", ("batch", 3, self.crop, self.crop)),)

    def __call__(self, raw: Any) -> Arrays:
        """``pixels`` uint8 ``[3, h, w]`` of one picture; see ``decode_image`` for what is taken."""
        pixels = np.asarray(self._resized(decode_image(raw)))
        return {"pixels": np.ascontiguousarray(pixels.transpose(2, 0, 1))}

    def _resized(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        wide = high = self.size
        if self.resize == "crop" and width < height:
            high = self.size * height // width
        elif self.resize == "crop":
            wide = self.size * width // height
        left, top = round((wide - self.crop) / 2), round((high - self.crop) / 2)  # half to even, as torchvision
        right, bottom = left + self.crop, top + self.crop
        interpolation = Image.Resampling[self.interpolation.upper()]
        if wide * high <= MAX_PIXELS:
            return image.resize((wide, high), interpolation).crop((left, top, right, bottom))
        # a hair of 60,000 x 1 pixels would become gigabytes: make only what is kept
        x, y = width / wide, height / high
        kept = (left * x, top * y, min(right * x, width), min(bottom * y, height))
        return image.resize((self.crop, self.crop), interpolation, box=kept)

    def blank(self) -> Arrays:
        """A black picture."""
        return {"pixels": np.zeros((3, self.crop, self.crop), np.uint8)}

    def stack(self, samples: Sequence[Arrays]) -> Arrays:
        """``pixels`` uint8 ``[b, 3, h, w]``."""
        return stack_arrays(samples, self.tensors, {})

    def to_config(self) -> dict[str, Any]:
        """JSON that ``from_config`` takes."""
        arguments = {name: getattr(self, name) for name in ("size", "crop", "resize", "interpolation")}
        return {"kind": "image", **arguments}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], assets: Mapping[str, str]) -> "ImagePreprocessor":
        """Rebuilds it; refuses unknown keys."""
        known = ("size", "crop", "resize", "interpolation")
        return cls(**config_arguments("image", config, known, required=["size"]))
