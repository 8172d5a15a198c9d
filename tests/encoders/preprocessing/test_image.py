import contextlib
import io
import os
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, ImageOps

from encoders.preprocessing import UnreadableValueError, preprocessor_from_config
from encoders.preprocessing.image import ImagePreprocessor
from encoders.preprocessing.image_files import MAX_BYTES, decode_image


def noise(height: int, width: int, channels: int = 3, *, seed: int = 0) -> np.ndarray:
    """Random pixels, a little smoothed so that JPEG keeps them."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, channels), dtype=np.uint8)
    return np.kron(coarse, np.ones((4, 4, 1), np.uint8))[:height, :width]


def saved(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes, *, bits: int = 8, color: int = 2, extra: bytes = b"") -> bytes:
    """A PNG written by hand; Pillow writes neither 16-bit colour nor sizes that are lies."""
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png16(values: np.ndarray, *, extra: bytes = b"") -> bytes:
    """16-bit PNG of ``[h, w, channels]``: grey, grey + alpha, RGB or RGBA."""
    height, width, channels = values.shape
    data = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(width, height, data, bits=16, color={1: 0, 2: 4, 3: 2, 4: 6}[channels], extra=extra)


def pixels(raw: object) -> np.ndarray:
    return np.asarray(decode_image(raw)).astype(int)


# --- what is taken -----------------------------------------------------------------------------------------------


def test_path_bytes_image_and_array_give_the_same_pixels(tmp_path):
    expected = noise(20, 30)
    data = saved(Image.fromarray(expected), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    for raw in (
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        data,
        bytearray(data),
        Image.fromarray(expected),
        expected,
    ):
        np.testing.assert_array_equal(pixels(raw), expected)


@pytest.mark.parametrize(("format", "options"), [("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"quality": 95})])
def test_three_formats_are_read(format, options):
    data = saved(Image.fromarray(noise(40, 50)), format, **options)
    reference = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(pixels(data), reference)


def test_the_given_image_is_not_changed_and_not_shared():
    image = Image.fromarray(noise(8, 8))
    image.info["note"] = "mine"
    decoded = decode_image(image)
    decoded.putpixel((0, 0), (1, 2, 3))
    assert image.info == {"note": "mine"}
    assert image.getpixel((0, 0)) != (1, 2, 3)


def test_an_array_with_strides_is_read():
    array = noise(10, 12)
    np.testing.assert_array_equal(pixels(array[::-1, :, ::-1]), array[::-1, :, ::-1])


# --- orientation -------------------------------------------------------------------------------------------------


def with_orientation(image: Image.Image, orientation: int, format: str = "PNG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image, format, exif=exif.tobytes())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_applied_as_pillow_does(orientation):
    data = with_orientation(Image.fromarray(noise(12, 20)), orientation)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(pixels(data), expected)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_orientation_is_applied_once_when_a_decoded_image_comes_back(format):
    once = decode_image(with_orientation(Image.fromarray(noise(12, 20)), 6, format))
    assert once.size == (12, 20)
    assert decode_image(once).size == (12, 20)
    assert once.info == {}


def test_damaged_exif_leaves_the_image_readable_without_a_warning():
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03\xff\xff\xff\xff\0\x06"
    data = saved(Image.fromarray(noise(12, 20)), "JPEG", exif=exif)
    assert decode_image(data).size == (20, 12)


# --- modes -------------------------------------------------------------------------------------------------------


def test_16_bit_images_are_scaled_to_8_bits():
    for channels in (1, 3):
        values = np.random.default_rng(channels).integers(0, 65536, (6, 7, channels))
        expected = np.broadcast_to(values * 255 / 65535, (6, 7, 3))
        assert np.abs(pixels(png16(values)) - expected).max() <= 1


def test_16_bit_alpha_is_composited_on_white():
    values = np.random.default_rng(4).integers(0, 65536, (6, 7, 4))
    alpha = values[..., 3:] / 65535
    expected = values[..., :3] * 255 / 65535 * alpha + 255 * (1 - alpha)
    assert np.abs(pixels(png16(values)) - expected).max() <= 2
    grey = np.broadcast_to(values[..., :1] * 255 / 65535 * alpha + 255 * (1 - alpha), (6, 7, 3))
    assert np.abs(pixels(png16(values[..., [0, 3]])) - grey).max() <= 2


def test_8_bit_values_survive_16_bits_exactly():
    values = noise(6, 8)[..., :1]
    np.testing.assert_array_equal(pixels(png16(values.astype(int) * 257)), np.repeat(values, 3, axis=2))


def test_16_bit_grey_with_a_transparent_value_shows_white_there():
    values = np.array([[[300], [2000], [40000]]])
    decoded = pixels(png16(values, extra=chunk(b"tRNS", struct.pack(">H", 300))))
    assert decoded[0, :, 0].tolist() == [255, 2000 >> 8, 40000 >> 8]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_images_of_unknown_range_are_refused(mode):
    with pytest.raises(UnreadableValueError, match=f"mode '{mode}', whose range is not known"):
        decode_image(Image.new(mode, (3, 3)))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa"])
def test_transparency_becomes_white(mode):
    image = Image.new("RGBA", (4, 2), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 2, 2))
    converted = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    assert converted.mode == mode
    assert pixels(converted)[0, :, 1].tolist() == [0, 0, 255, 255]


def test_half_transparent_is_mixed_with_white():
    assert np.abs(pixels(Image.new("RGBA", (2, 2), (200, 0, 100, 128)))[0, 0] - [227, 127, 177]).max() <= 1


def test_palette_with_a_transparent_entry_becomes_white_there():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    for transparency in (1, b"\xff\x00"):
        assert pixels(saved(image, "PNG", transparency=transparency)).tolist() == [[[10, 20, 30], [255] * 3]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV"])
def test_other_modes_equal_the_conversion_of_pillow(mode):
    image = Image.fromarray(noise(8, 8)).convert(mode)
    np.testing.assert_array_equal(pixels(image), np.asarray(image.convert("RGB")))


def test_cmyk_jpeg_keeps_its_colours():
    image = Image.new("RGB", (16, 16), (200, 40, 90))
    decoded = pixels(saved(image.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(decoded - [200, 40, 90]).max() <= 4


# --- limits ------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_decoding(monkeypatch):
    def load(self: object) -> None:
        raise AssertionError("pixels were decoded before the limits were checked")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)


def huge_jpeg() -> bytes:
    data = bytearray(saved(Image.new("RGB", (16, 16)), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 10_000, 9_000)
    return bytes(data)


def huge_webp() -> bytes:
    data = bytearray(saved(Image.new("RGB", (16, 16)), "WEBP"))
    data[26:30] = struct.pack("<HH", 16_000, 16_000)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        png(100_000, 100_000, b""),
        png(10_000, 5_000, b""),
        png(10_000, 12_000, b""),  # where Pillow only warns
        png(2**31 - 1, 2**31 - 1, b""),
        png(70_000, 10, b""),
        huge_jpeg(),
        huge_webp(),
    ],
    ids=["bomb", "50 megapixels", "120 megapixels", "largest", "long side", "jpeg", "webp"],
)
def test_too_many_pixels_are_refused_before_decoding(data, no_decoding):
    with pytest.raises(UnreadableValueError, match="40 megapixels"):
        decode_image(data)


def test_warnings_of_pillow_do_not_leak():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(UnreadableValueError, match="40 megapixels"):
            decode_image(png(10_000, 12_000, b""))
    assert caught == []


def test_a_long_thin_image_needs_little_memory():
    arrays = ImagePreprocessor(224)(Image.new("RGB", (60_000, 1), (9, 8, 7)))["pixels"]
    assert arrays.reshape(3, -1).T.tolist()[0] == [9, 8, 7]
    assert ImagePreprocessor(224, resize="squash")(Image.new("L", (1, 60_000)))["pixels"].shape == (3, 224, 224)


def test_an_image_in_memory_meets_the_same_limits():
    with pytest.raises(UnreadableValueError, match="40 megapixels"):
        decode_image(Image.new("1", (10_000, 5_000)))
    with pytest.raises(UnreadableValueError, match="40 megapixels"):
        decode_image(np.broadcast_to(np.uint8(0), (5_000, 10_000, 3)))


def test_a_large_file_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(png(4, 4, b"").ljust(MAX_BYTES + 1))
    with pytest.raises(UnreadableValueError, match=r"a\.png: is larger than 20 MB"):
        decode_image(tmp_path / "a.png")


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_an_animation_is_refused(format):
    frames = [Image.fromarray(noise(8, 8, seed=seed)) for seed in range(3)]
    data = saved(frames[0], format, save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadableValueError, match=r"animated \(3 frames\)"):
        decode_image(data)


def test_a_multi_image_jpeg_of_a_phone_gives_its_main_image():
    frames = [Image.fromarray(noise(16, 24, seed=seed)) for seed in range(2)]
    data = saved(frames[0], "MPO", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "PPM"])
def test_other_formats_are_refused(format):
    with pytest.raises(UnreadableValueError, match="not a readable JPEG, PNG or WebP"):
        decode_image(saved(Image.new("RGB", (8, 8)), format))


# --- unusable values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [None, 3, 1.5, {"a": 1}, ["a.png"], (1, 2)])
def test_another_type_is_refused(raw):
    with pytest.raises(UnreadableValueError, match=f"cannot be a {type(raw).__name__}; give a path"):
        decode_image(raw)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((0, 4, 3), np.uint8), r"the shape \[0, 4, 3\]; give \[h, w\], \[h, w, channels\] or"),
        (np.zeros((5, 5, 2), np.uint8), r"the shape \[5, 5, 2\]"),
        (np.zeros((1, 3, 5, 5), np.uint8), r"the shape \[1, 3, 5, 5\]"),
        (np.zeros(9, np.uint8), r"the shape \[9\]"),
        (np.float32(1), r"the shape \[\]"),
        (np.zeros((4, 4, 3), np.int64), "int64, whose range is not known; give uint8, or floats in 0..1"),
        (np.zeros((4, 4), bool), "bool, whose range is not known"),
        (np.full((4, 4, 3), 255.0), r"floats from 255 to 255; give floats in 0..1 \(divide those up to 255 by it"),
        (np.full((4, 4, 3), 1.001), "floats from 1.001 to 1.001"),
        (np.linspace(-2, 2, 16).reshape(4, 4), "floats from -2 to 2; .* undo a normalisation"),
        (np.full((4, 4), np.nan), "floats from nan to nan"),
        (torch.zeros(3, 4, 4, requires_grad=True), "cannot be made of a Tensor .*; give NumPy"),
        (torch.zeros(3, 4, 4, dtype=torch.bfloat16), "cannot be made of a Tensor .*; give NumPy"),
    ],
    ids=range(13),
)
def test_an_array_of_another_shape_or_range_is_refused(array, reason):
    with pytest.raises(UnreadableValueError, match=reason):
        decode_image(array)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("library", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("scale", [1, np.float32(255), np.float64(255), np.float16(255)], ids=str)
def test_an_array_is_the_image_that_pillow_makes_of_its_levels(channels, library, scale):
    levels = noise(20, 30, channels)
    expected = pixels(saved(Image.fromarray(levels.squeeze()), "PNG"))
    array = levels if scale == 1 else levels / scale
    forms = [array, array.transpose(2, 0, 1)] + ([array[..., 0]] if channels == 1 else [])
    for form in forms:
        np.testing.assert_array_equal(pixels(library(form)), expected)


@pytest.mark.parametrize("shape", [(3, 3, 3), (3, 5, 3), (1, 7, 3), (4, 3, 3), (3, 9, 1)])
def test_the_last_axis_is_that_of_the_channels_where_either_might_be(shape):
    levels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert decode_image(levels).size == shape[1::-1]


def test_paths_that_are_no_files_are_refused(tmp_path):
    with pytest.raises(UnreadableValueError, match=r"none\.png: there is no such file"):
        decode_image(tmp_path / "none.png")
    with pytest.raises(UnreadableValueError, match="not a regular file"):
        decode_image(tmp_path)
    with pytest.raises(UnreadableValueError, match="cannot be opened"):
        decode_image("a\0b.png")
    with pytest.raises(UnreadableValueError, match="cannot be opened"):
        decode_image("a" * 5000)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UnreadableValueError, match="not a regular file"):
        decode_image(tmp_path / "pipe.png")


def test_a_failing_disk_is_an_unreadable_value(monkeypatch):
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("encoders.preprocessing.files.io.BytesIO", Failing)
    with pytest.raises(UnreadableValueError, match="Input/output error"):
        decode_image(b"x")


def test_an_empty_file_and_an_empty_image_are_refused():
    with pytest.raises(UnreadableValueError, match="0 bytes"):
        decode_image(b"")
    with pytest.raises(UnreadableValueError, match="not empty"):
        decode_image(Image.new("RGB", (0, 4)))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused_whatever_pillow_was_told(format, share, monkeypatch):
    data = saved(Image.fromarray(noise(64, 64)), format)
    for tolerant in (False, True):
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", tolerant)
        with pytest.raises(UnreadableValueError, match=r"damaged|not a readable"):
            decode_image(data[: int(len(data) * share)])
        assert tolerant == ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_truncated_image_in_memory_is_refused():
    data = saved(Image.fromarray(noise(64, 64)), "JPEG")
    lazy = Image.open(io.BytesIO(data[: len(data) // 2]))
    with pytest.raises(UnreadableValueError, match="damaged"):
        decode_image(lazy)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_damaged_bytes_are_read_or_refused_but_never_anything_else(format):
    rng = np.random.default_rng(7)
    data = with_orientation(Image.fromarray(noise(24, 32)), 6, format)
    for trial in range(300):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), rng.integers(1, 6)):
            damaged[position] = rng.integers(256)
        if trial % 3 == 0:
            damaged = damaged[: rng.integers(len(data))]
        with contextlib.suppress(UnreadableValueError):
            assert decode_image(bytes(damaged)).mode == "RGB"


def test_random_bytes_are_refused():
    rng = np.random.default_rng(8)
    for magic in (b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF\x20\0\0\0WEBPVP8 ", b"GIF89a"):
        with pytest.raises(UnreadableValueError, match="not a readable JPEG, PNG or WebP"):
            decode_image(magic + rng.bytes(200))


def test_threads_leave_the_warning_filters_as_they_were():
    before = list(warnings.filters)
    data = saved(Image.fromarray(noise(16, 16)), "JPEG")
    threads = [threading.Thread(target=lambda: [decode_image(data) for _ in range(30)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


# --- pixels of one size ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(160, 213), (97, 61), (300, 301), (20, 30), (224, 224), (31, 500)])
@pytest.mark.parametrize(("size", "crop", "resize"), [(64, None, "crop"), (73, 64, "crop"), (73, 64, "squash")])
def test_pixels_equal_those_of_torchvision(height, width, size, crop, resize, interpolation):
    torch = pytest.importorskip("torch")
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    # smooth: beside sharp edges torchvision's own answers, on PIL images and on tensors, differ by up to 16
    coarse = Image.fromarray(noise(height, width, seed=height)[::8, ::8])
    image = coarse.resize((width, height), Image.Resampling.BICUBIC)
    ours = ImagePreprocessor(size, crop=crop, resize=resize, interpolation=interpolation)(image)["pixels"]
    target = [size] if resize == "crop" else [size, size]

    def reference(image: object) -> np.ndarray:
        mode = InterpolationMode(interpolation)
        resized = functional.resize(image, target, interpolation=mode, antialias=True)
        return np.asarray(functional.center_crop(resized, [crop or size]))

    np.testing.assert_array_equal(ours.transpose(1, 2, 0), reference(image))
    tensor = reference(torch.from_numpy(np.array(image)).permute(2, 0, 1))
    assert ours.shape == tensor.shape
    assert np.abs(ours.astype(int) - tensor).max() <= 1


@pytest.mark.parametrize("turned", [False, True])
def test_a_very_long_image_shows_its_centre(turned):
    array = noise(1, 60_004)
    arrays = ImagePreprocessor(64)(array.transpose(1, 0, 2) if turned else array)["pixels"]
    np.testing.assert_array_equal(arrays[:, 32, 32], array[0, 30_002])


def test_pixels_are_contiguous_uint8_and_repeat_exactly():
    data = saved(Image.fromarray(noise(40, 50)), "JPEG")
    first, second = (ImagePreprocessor(32)(data)["pixels"] for _ in range(2))
    assert (first.dtype, first.shape, first.flags.c_contiguous) == (np.uint8, (3, 32, 32), True)
    np.testing.assert_array_equal(first, second)


def test_stack_and_blank_fit_the_declared_tensors():
    preprocessor = ImagePreprocessor(16, crop=12)
    stacked = preprocessor.stack([preprocessor(noise(20, 20)), preprocessor.blank()])
    assert preprocessor.tensors[0].axes == ("batch", 3, 12, 12)
    assert stacked["pixels"].shape == (2, 3, 12, 12)
    assert not stacked["pixels"][1].any()


def test_a_rebuilt_preprocessor_gives_the_same_pixels():
    original = ImagePreprocessor(20, crop=16, resize="squash", interpolation="bicubic")
    rebuilt = preprocessor_from_config(original.to_config(), {})
    assert rebuilt.to_config() == original.to_config()
    np.testing.assert_array_equal(rebuilt(noise(30, 40))["pixels"], original(noise(30, 40))["pixels"])


def test_arguments_out_of_range_are_refused():
    for size in (0, -1, 2.5, True, "64"):
        with pytest.raises(ValueError, match=r"size is .*; give a whole number"):
            ImagePreprocessor(size)
    with pytest.raises(ValueError, match="crop at most what resizing leaves"):
        ImagePreprocessor(32, crop=33)
    with pytest.raises(ValueError, match="resize is 'pad'; give one of crop, squash"):
        ImagePreprocessor(32, resize="pad")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="interpolation is 'nearest'; give one of bilinear, bicubic"):
        ImagePreprocessor(32, interpolation="nearest")  # type: ignore[arg-type]
