"""Features without any encoder: the baseline of a pretrained one. Never imports torch."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from encoders.preprocessing import Arrays, TensorSpec
from encoders.preprocessing.audio import AudioPreprocessor
from encoders.preprocessing.image import ImagePreprocessor

MODALITIES = ("image", "text", "audio")
"""Modalities that have raw features."""
THUMBNAIL, LEVELS = 8, 4
"""Pixels a side of a thumbnail; levels of each colour in the histogram."""
WORDS = 500
"""Most words of a vocabulary."""
BANDS, WINDOW, HOP, SAMPLE_RATE = 40, 400, 160, 16_000
"""Mel bands, and the samples of a window (25 ms) and from one to the next (10 ms)."""


class RawFeatures:
    """Preprocessor that turns a value into one short vector.

    Image: an 8 x 8 thumbnail and a colour histogram. Text: TF-IDF of the words that most texts have. Audio: mean and
    deviation of each log mel band.

    Args:
        texts: of the table, without labels: they make the vocabulary.

    >>> RawFeatures("image", ())(np.zeros((20, 30, 3), np.uint8))["features"].shape
    (256,)

    Raises:
        ValueError: for a modality that is none of these.
    """

    def __init__(self, modality: str, texts: Sequence[str]) -> None:
        if modality not in MODALITIES:
            raise ValueError(f"there are no raw features of the modality {modality!r}; give {', '.join(MODALITIES)}")
        self.modality = modality
        self._read = _Image() if modality == "image" else _Audio() if modality == "audio" else _Words(texts)
        self.dim = self._read.dim
        self.tensors: tuple[TensorSpec, ...] = (TensorSpec("features", "float32", ("batch", self.dim)),)

    def __call__(self, raw: Any) -> Arrays:
        """``features`` float32 [d] of one value; see the preprocessor of the modality for what is taken."""
        return {"features": self._read(raw).astype(np.float32)}

    def blank(self) -> Arrays:
        """Zeros."""
        return {"features": np.zeros(self.dim, np.float32)}

    def stack(self, samples: Sequence[Arrays]) -> Arrays:
        """``features`` float32 [b d]."""
        return {"features": np.stack([sample["features"] for sample in samples])}

    def to_config(self) -> dict[str, Any]:
        """Raises: raw features are never saved."""
        raise TypeError("raw features are a baseline of `multimodal transfer-check` and are not exported")


class _Image:
    dim = 3 * THUMBNAIL**2 + LEVELS**3

    def __init__(self) -> None:
        self._pixels = ImagePreprocessor(8 * THUMBNAIL, resize="squash")

    def __call__(self, raw: Any) -> np.ndarray:
        pixels = self._pixels(raw)["pixels"]  # [3 h w]
        blocks = pixels.reshape(3, THUMBNAIL, 8, THUMBNAIL, 8).mean(axis=(2, 4)) / 255.0
        levels = pixels.reshape(3, -1).astype(np.int64) * LEVELS // 256
        colours = np.bincount(np.array([LEVELS**2, LEVELS, 1]) @ levels, minlength=LEVELS**3)
        return np.concatenate([blocks.ravel(), colours / levels.shape[1]])


class _Words:
    def __init__(self, texts: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._vectorizer = TfidfVectorizer(max_features=WORDS, token_pattern=r"\w+")
        self._vectorizer.fit([*texts, "text"])  # one word at least: scikit-learn rejects an empty vocabulary
        self.dim = len(self._vectorizer.vocabulary_)

    def __call__(self, raw: Any) -> np.ndarray:
        found: np.ndarray = self._vectorizer.transform([str(raw)]).toarray()[0]
        return found


class _Audio:
    dim = 2 * BANDS

    def __init__(self) -> None:
        self._samples = AudioPreprocessor(SAMPLE_RATE)

    def __call__(self, raw: Any) -> np.ndarray:
        waveform = self._samples(raw)["waveform"]
        frames = np.lib.stride_tricks.sliding_window_view(waveform, WINDOW)[::HOP] * np.hanning(WINDOW)  # [t s]
        energies = np.abs(np.fft.rfft(frames)) ** 2 @ mel_bands()
        logs = np.log(energies + 1e-3)  # the floor of encoders.audio.mel.LogMel
        return np.concatenate([logs.mean(axis=0), logs.std(axis=0)])


@cache
def mel_bands() -> np.ndarray:
    """Triangles on the mel scale, 2595 log10(1 + f / 700), from 60 Hz to half the sample rate, [f n].

    >>> mel_bands().shape
    (201, 40)
    """
    low, high = 2595 * np.log10(1 + np.array([60.0, SAMPLE_RATE / 2]) / 700)
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling))
