"""Random changes to training values, raw to raw, before the preprocessor; a function of (seed, epoch, row, input)."""

import math
import zlib
from typing import Any

import numpy as np
import soxr
from PIL import Image

from encoders.preprocessing.audio import MAX_SECONDS, decode_audio
from encoders.preprocessing.image_files import decode_image
from multimodal.config import Augment

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's mode "L"
WIDEST_ASPECT = 4 / 3  # as torchvision's RandomResizedCrop
SHORT_SIDE = 768  # pixels; a photo twice as large is halved first, as turning it would take longer than decoding it


class Augmentation:
    """Random change of a value, a function of (seed, epoch, row, name), so that workers, order and resumption do not
    matter, switching one change off leaves the others, and inputs of one record change independently.

    Args:
        modality: "image", "text" or "audio"; values of any other are returned unchanged.
        name: of the input.
    """

    def __init__(self, modality: str, settings: Augment, seed: int, name: str = "") -> None:
        self.modality, self.settings, self.seed = modality, settings, seed
        self.stream = zlib.crc32(name.encode())  # Python's own hash differs from process to process

    def __call__(self, raw: Any, epoch: int, row: int) -> Any:
        """A value that the preprocessor takes: for images a PIL image, for audio (waveform, rate).

        Raises:
            UnreadableValueError: if the value has to be decoded and cannot be.
        """
        if not self.settings.enabled:
            return raw
        rng = np.random.default_rng((self.seed, epoch, row, self.stream))
        if self.modality == "image":
            return augment_image(raw, self.settings, rng)
        if self.modality == "text":
            return augment_text(raw, self.settings, rng)
        return augment_audio(raw, self.settings, rng) if self.modality == "audio" else raw


def augment_text(raw: Any, settings: Augment, rng: np.random.Generator) -> Any:
    """Drops words; never all of them."""
    if settings.token_dropout == 0 or not isinstance(raw, str):
        return raw
    words = raw.split()
    draws = rng.random(len(words))
    kept = [word for word, draw in zip(words, draws, strict=True) if draw >= settings.token_dropout]
    if len(kept) == len(words):
        return raw
    return " ".join(kept) if kept else words[int(draws.argmax())]


def augment_image(raw: Any, settings: Augment, rng: np.random.Generator) -> Any:
    """Crops, stretches, rotates (corners get the mean colour), mirrors, and changes colours."""
    if not (settings.crop or settings.flip or settings.color or settings.rotation):
        return raw
    image = decode_image(raw)
    area, aspect, left, top, angle, mirror, *colors = rng.random(9).tolist()
    flip = mirror < settings.flip
    if settings.crop or settings.rotation:
        image = image.reduce(max(1, min(image.size) // SHORT_SIDE))
        share = 1.0 - settings.crop * area
        widest = min(math.log(WIDEST_ASPECT), -math.log(share))  # such that the part is no wider or higher than all
        stretch = math.exp(widest * (2 * aspect - 1))
        part = (math.sqrt(share * stretch), math.sqrt(share / stretch))
        degrees = settings.rotation * (2 * angle - 1)
        image = _cut_and_turn(image, part, (left, top), degrees, flip)
    elif flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _change_colors(image, [1 + settings.color * (2 * draw - 1) for draw in colors]) if settings.color else image


def _cut_and_turn(
    image: Image.Image, part: tuple[float, float], place: tuple[float, float], degrees: float, flip: bool
) -> Image.Image:
    """All geometry in one affine map, so that pixels are interpolated once; part and place as shares of the image."""
    w, h = image.size
    across, down = (-part[0] if flip else part[0]), part[1]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    a, b, d, e = across * cos, -down * sin, across * sin, down * cos
    x = w * (part[0] / 2 + place[0] * (1 - part[0]))  # centre of the part
    y = h * (part[1] / 2 + place[1] * (1 - part[1]))
    matrix = (a, b, x - a * w / 2 - b * h / 2, d, e, y - d * w / 2 - e * h / 2)
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=_mean_color(image)
    )


def _change_colors(image: Image.Image, factors: list[float]) -> Image.Image:
    """Brightness, contrast (about the mean grey) and saturation, in this order, as one matrix on the colours."""
    brightness, contrast, saturation = factors
    mean = sum(share * value for share, value in zip(LUMA, _mean_color(image), strict=True))
    colors = saturation * np.eye(3) + (1 - saturation) * np.array(LUMA)  # each row: a colour out of three
    offset = np.full((3, 1), (1 - contrast) * mean)
    matrix = brightness * np.hstack([contrast * colors, offset])
    return image.convert("RGB", tuple(matrix.ravel().tolist()))


def _mean_color(image: Image.Image) -> tuple[int, ...]:
    color = image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    assert isinstance(color, tuple)
    return color


def augment_audio(raw: Any, settings: Augment, rng: np.random.Generator) -> Any:
    """Changes speed (and pitch), masks a time span and a band, changes loudness, pads with silence, adds noise."""
    off = not (settings.speed or settings.time_mask or settings.frequency_mask)
    if off and not (settings.gain or settings.shift or settings.noise):
        return raw
    waveform, rate = decode_audio(raw)
    speed, span, start, band, bottom, gain, shift, noise = rng.random(8).tolist()
    if settings.speed:
        waveform = soxr.resample(waveform, rate * (1 + settings.speed * (2 * speed - 1)), rate)
    masks = ((settings.time_mask * span, start), (settings.frequency_mask * band, bottom))
    waveform = mask_spectrogram(waveform, rate, *masks)
    if settings.gain:
        waveform = waveform * np.float32(10 ** (settings.gain * (2 * gain - 1) / 20))
    if settings.shift:
        silence = round(settings.shift * rate * (2 * shift - 1))
        waveform = np.pad(waveform, (max(0, silence), max(0, -silence)))
    if settings.noise:
        waveform = waveform + np.float32(settings.noise * noise) * rng.standard_normal(len(waveform), np.float32)
    return waveform[: MAX_SECONDS * rate], rate


def mask_spectrogram(
    waveform: np.ndarray, rate: int, time_mask: tuple[float, float], frequency_mask: tuple[float, float]
) -> np.ndarray:
    """Silences one span of time and one band of frequencies.

    SpecAugment (Park et al., 2019, https://arxiv.org/abs/1904.08779). Ours differs: the masks are zeros in the
    waveform's own Fourier frames, as the mel filters are part of the encoder; there is one of each, and no warping.

    Args:
        time_mask: silenced share of the clip, and its place from 0 (start) to 1.
        frequency_mask: silenced share of the band up to half the rate, and its place.
    """
    size = 2 ** round(math.log2(0.032 * rate))  # frames of about 32 ms, half overlapping
    hop = size // 2
    count = -(-len(waveform) // hop) + 1
    times, bands = _mask(count, *time_mask), _mask(hop + 1, *frequency_mask)
    if times.all() and bands.all():
        return waveform
    window = np.sin(np.pi * np.arange(size) / size).astype(np.float32)  # its squares, half overlapping, sum to 1
    padded = np.pad(waveform, (hop, count * hop - len(waveform)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * window  # [count size]
    frames = np.fft.irfft(np.fft.rfft(frames) * bands * times[:, None], size).astype(np.float32) * window
    halves = np.zeros((count + 1, hop), np.float32)
    halves[:-1] += frames[:, :hop]
    halves[1:] += frames[:, hop:]
    return halves.ravel()[hop : hop + len(waveform)]


def _mask(count: int, share: float, place: float) -> np.ndarray:
    """Bool [count], False over a run of ``share`` of them."""
    length = int(share * count)
    start = int(place * (count - length + 1))
    mask = np.ones(count, bool)
    mask[start : start + length] = False
    return mask
