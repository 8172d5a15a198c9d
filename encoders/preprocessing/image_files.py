"""Images: from whatever people store to upright RGB. Never imports torch."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from encoders.preprocessing.base import UnreadableValueError
from encoders.preprocessing.files import file_name, is_file_value, open_file

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_BYTES = 20_000_000
MAX_PIXELS = 40_000_000
MAX_SIDE = 65_535  # JPEG's own; resizing needs memory in proportion to the longest side

ORIENTATION_TAG = 0x0112
_T = Image.Transpose
# EXIF 2.32, table "Orientation": how the stored image is turned to stand upright
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


def decode_image(raw: Any) -> Image.Image:
    """An upright RGB image, from a path, bytes, a PIL image, or an array, of NumPy or as a tensor on the CPU.

    EXIF orientation is applied; transparency becomes white; 16 bits a channel become 8 by keeping the high
    byte; colour profiles are ignored. Files are JPEG, PNG or WebP with one frame (of a phone's multi-picture
    JPEG the main one is taken), at most 20 MB and 40 megapixels, which is checked before decoding.

    An array is ``[h, w]``, ``[h, w, channels]`` or ``[channels, h, w]``, uint8, or floats in 0..1, which become the
    nearest of 256 levels. Channels are 1 (grey), 3 (RGB) or 4 (RGBA); the last axis is taken for them where it has
    such a length, the first one else.

    >>> decode_image(np.zeros((2, 3, 3), np.uint8)).size
    (3, 2)
    >>> decode_image(np.ones((3, 4, 5), np.float32)).getpixel((0, 0))
    (255, 255, 255)

    Raises:
        UnreadableValueError: if the value is none of these, is damaged or exceeds a limit.
    """
    if isinstance(raw, Image.Image):
        return _decode(raw, "the given image")
    if is_file_value(raw):
        name = file_name(raw)
        with open_file(raw) as file, _open(_read(file, name), name) as image:
            return _decode(image, name)
    if hasattr(raw, "__array__"):
        return _from_array(raw)
    raise UnreadableValueError(
        f"an image cannot be a {type(raw).__name__}; give a path, bytes, a PIL image or an array [h, w, 3]"
    )


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels of an image's file, as its header says; nothing is decoded.

    Raises:
        UnreadableValueError: if it is no JPEG, PNG or WebP file.
    """
    with _open(data, file_name(data)) as image:
        return image.size


_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def _from_array(raw: Any) -> Image.Image:
    try:
        array = np.asarray(raw)
    except Exception as error:  # an array of another library may raise anything
        raise UnreadableValueError(
            f"an image cannot be made of a {type(raw).__name__} ({error}); give NumPy"
        ) from error
    shape = list(array.shape)
    if array.ndim == 2:
        array = array[..., np.newaxis]
    elif array.ndim == 3 and shape[2] not in _MODES and shape[0] in _MODES:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] not in _MODES or array.size == 0:
        raise UnreadableValueError(
            f"an image cannot be an array of the shape {shape}; give [h, w], [h, w, channels] or [channels, h, w] with "
            "1, 3 or 4 channels"
        )
    _check_size((array.shape[1], array.shape[0]), "the given array")
    levels = np.ascontiguousarray(_levels(array))
    return _to_rgb(Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels), "the given array")


def _levels(array: np.ndarray) -> np.ndarray:
    """The array as uint8."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise UnreadableValueError(
            f"an image cannot be an array of {array.dtype}, whose range is not known; give uint8, or floats in 0..1"
        )
    low, high = float(array.min()), float(array.max())
    if not 0 <= low <= high <= 1:  # NaN is no number in between
        raise UnreadableValueError(
            f"an image cannot be an array of floats from {low:.4g} to {high:.4g}; give floats in 0..1 (divide those up "
            "to 255 by it, undo a normalisation), or uint8"
        )
    return np.rint(array * 255).astype(np.uint8)


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
        raise UnreadableValueError(f"{name}: has {width} x {height} pixels; give an image that is not empty")


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
    if image.mode in ("I", "F"):  # only images in memory: no PNG is read as one
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
