"""Audio: from a file or an array to one channel at one sample rate. Never imports torch."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import soxr

from encoders.preprocessing.audio_files import (
    MAX_CHANNELS,
    MAX_RATE,
    MAX_SECONDS,
    MIN_RATE,
    check_form,
    check_length,
    loudest_channel,
    read_audio,
)
from encoders.preprocessing.base import (
    Arrays,
    TensorSpec,
    UnreadableValueError,
    config_arguments,
    stack_arrays,
    whole_number,
)
from encoders.preprocessing.files import file_name, is_file_value, open_file

logger = logging.getLogger(__name__)


def decode_audio(raw: Any) -> tuple[np.ndarray, int]:
    """One channel, float32 ``[s]``, and its rate in Hz, from a path, bytes, or ``(waveform, rate)``.

    Files are wav, flac, ogg or mp3. A waveform is ``[s]``, ``[s, channels]``, or ``[channels, s]`` where it has at most
    8 rows and more columns; floats in -1..1, or integers, which are scaled by the range of their dtype. Channels are
    averaged. At most 60 s, 8 channels, 8 to 192 kHz, which is checked before decoding as far as the header says it,
    and again while decoding: a file is read to its end also where its header does not know, or only guesses, where
    that is.

    >>> waveform, rate = decode_audio((np.array([0, 16384], np.int16), 8000))
    >>> waveform.tolist(), rate
    ([0.0, 0.5], 8000)

    Raises:
        UnreadableValueError: if the value is none of these, is damaged, empty or not finite, or exceeds a limit.
    """
    if isinstance(raw, tuple):
        name = "the given waveform"
        waveform, rate = _from_array(raw, name)
    elif is_file_value(raw):
        name = file_name(raw)
        with open_file(raw) as file:
            waveform, rate = read_audio(file, name)
    else:
        raise UnreadableValueError(
            f"audio cannot be a {type(raw).__name__}; give a path, bytes, or (waveform [s] or [s, channels], rate)"
        )
    if not len(waveform):
        raise UnreadableValueError(f"{name}: holds no samples; leave the cell empty where there is no audio")
    if not np.isfinite(waveform).all():
        raise UnreadableValueError(f"{name}: holds NaN or infinite samples; repair it or leave the record out")
    return waveform, rate


FULL_SCALE = 2.0
"""Peak from which on a waveform is not in -1..1; what lossy formats overshoot stays below."""
CANCELLED = 0.01
"""Peak of the average of channels, relative to theirs, up to which they cancel each other."""


def audio_doubt(raw: Any, waveform: np.ndarray) -> str | None:
    """Reason to doubt what ``decode_audio`` made of a value, or None.

    >>> channels = np.array([[0.5, -0.5], [-0.25, 0.25]])
    >>> audio_doubt((channels, 8000), decode_audio((channels, 8000))[0])
    'has channels that cancel each other when they are averaged; keep one of them'
    """
    peak = float(np.abs(waveform).max())
    if peak > FULL_SCALE:
        return f"has floats up to {peak:.6g}, where full scale is 1; divide by it, as by 32768 of 16-bit values"
    if peak < CANCELLED and peak <= CANCELLED * _loudest(raw):
        return "has channels that cancel each other when they are averaged; keep one of them"
    return None


def _loudest(raw: Any) -> float:
    """Peak of the loudest channel; -1 in silence."""
    if isinstance(raw, tuple):
        peak = float(np.abs(_scaled(np.asarray(raw[0]), "the given waveform")).max())
    else:
        with open_file(raw) as file:
            peak = loudest_channel(file, file_name(raw))
    return peak or -1.0


def _from_array(raw: tuple[Any, ...], name: str) -> tuple[np.ndarray, int]:
    if len(raw) != 2:
        raise UnreadableValueError(f"{name}: is a tuple of {len(raw)}; give (waveform, rate in Hz)")
    rate = _whole_hertz(raw[1], name)
    try:
        values = np.asarray(raw[0])
    except Exception as error:  # an array of another library may raise anything
        raise UnreadableValueError(f"{name}: cannot be made an array ({error}); give numpy [s]") from error
    if values.ndim not in (1, 2):
        raise UnreadableValueError(f"{name}: has the shape {list(values.shape)}; give [s] or [s, channels]")
    if values.ndim == 2 and values.shape[0] <= MAX_CHANNELS < values.shape[1]:
        values = values.T  # [channels, s], as torchaudio and datasets have it
    check_form(1 if values.ndim == 1 else values.shape[1], rate, name)
    check_length(len(values), rate, name)
    samples = _scaled(values, name)
    return samples if samples.ndim == 1 else samples.mean(axis=1), rate


def _whole_hertz(rate: Any, name: str) -> int:
    is_whole = isinstance(rate, int | np.integer) and not isinstance(rate, bool)
    if not is_whole and not (isinstance(rate, float | np.floating) and float(rate).is_integer()):
        given = repr(rate) if isinstance(rate, float | str) else f"a {type(rate).__name__}"
        raise UnreadableValueError(f"{name}: has {given} as its rate; give (waveform, rate in whole Hz)")
    return int(rate)


def _scaled(values: np.ndarray, name: str) -> np.ndarray:
    """Samples as float32; integers are scaled by the range of their dtype: -1 is the lowest, 0 the middle."""
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):  # becomes infinite, which is refused
            return values.astype(np.float32)
    if values.dtype.kind not in "iu" or values.dtype.itemsize > 4:
        raise UnreadableValueError(
            f"{name}: has the dtype {values.dtype}, whose full scale is not known; give floats in -1..1, or integers "
            "of 8, 16 or 32 bits"
        )
    half = 2.0 ** (8 * values.dtype.itemsize - 1)
    middle = half if values.dtype.kind == "u" else 0.0
    return ((values.astype(np.float64) - middle) / half).astype(np.float32)


class AudioPreprocessor:
    """A waveform of one channel at one sample rate, and which of its samples are real.

    Mel filters and normalisation are not done here: they are part of the exported graph.

    Args:
        sample_rate: Hz.
        max_seconds: what comes later is cut off, and said in the log at level INFO; at most 60.
        min_seconds: shorter clips end in silence up to here, which counts as real: the mask then has room for at
            least one token of every encoder, and a click is not taken for a missing clip.

    >>> AudioPreprocessor(8000)((np.zeros(16000, np.float32), 16000))["waveform"].shape
    (8000,)

    Raises:
        ValueError: if an argument is out of its range.
    """

    modality: str = "audio"
    tensors: tuple[TensorSpec, ...] = (
        TensorSpec("waveform", "float32", ("batch", "samples")),
        TensorSpec("waveform_mask", "bool", ("batch", "samples")),
    )

    def __init__(self, sample_rate: int = 16_000, *, max_seconds: float = 30.0, min_seconds: float = 0.1) -> None:
        self.sample_rate = whole_number("sample_rate", sample_rate)
        if not MIN_RATE <= self.sample_rate <= MAX_RATE:
            raise ValueError(f"sample_rate is {sample_rate}; give {MIN_RATE} to {MAX_RATE} Hz, for example 16000")
        if not 0 < min_seconds <= max_seconds <= MAX_SECONDS:
            raise ValueError(
                f"min_seconds is {min_seconds} and max_seconds {max_seconds}; give 0 < min_seconds <= max_seconds <= "
                f"{MAX_SECONDS}"
            )
        self.max_seconds, self.min_seconds = float(max_seconds), float(min_seconds)
        self.max_samples = max(1, round(self.max_seconds * self.sample_rate))
        self.min_samples = max(1, round(self.min_seconds * self.sample_rate))

    def __call__(self, raw: Any) -> Arrays:
        """``waveform`` float32 and ``waveform_mask`` bool, both ``[s]``; see ``decode_audio`` for what is taken."""
        waveform, rate = decode_audio(raw)
        if len(waveform) > self.max_seconds * rate:
            logger.info("a clip of %.1f s is cut to %.1f s", len(waveform) / rate, self.max_seconds)
            waveform = waveform[: round(self.max_seconds * rate)]
        if rate != self.sample_rate:
            waveform = soxr.resample(waveform, rate, self.sample_rate)
        waveform = waveform[: self.max_samples]
        silence = max(0, self.min_samples - len(waveform))
        return self._all_real(np.pad(waveform, (0, silence)))

    def blank(self) -> Arrays:
        """The shortest silence."""
        return self._all_real(np.zeros(self.min_samples, np.float32))

    def _all_real(self, waveform: np.ndarray) -> Arrays:
        return {"waveform": waveform, "waveform_mask": np.ones(len(waveform), bool)}

    def stack(self, samples: Sequence[Arrays]) -> Arrays:
        """``waveform`` float32 and ``waveform_mask`` bool, both ``[b, s]``; shorter clips end in masked zeros."""
        return stack_arrays(samples, self.tensors, {})

    def to_config(self) -> dict[str, Any]:
        """JSON that ``from_config`` takes."""
        arguments = {name: getattr(self, name) for name in ("sample_rate", "max_seconds", "min_seconds")}
        return {"kind": "audio", **arguments}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], assets: Mapping[str, str]) -> "AudioPreprocessor":
        """Rebuilds it; refuses unknown keys."""
        return cls(**config_arguments("audio", config, ("sample_rate", "max_seconds", "min_seconds")))
