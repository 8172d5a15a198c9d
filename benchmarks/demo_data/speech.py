"""Spoken digits from a formant synthesizer: vocal cords and noise, filtered by a vocal tract that moves.

A source and a filter, as in Klatt's synthesizer (1980, https://doi.org/10.1121/1.383940). Ours differs: the
filter acts on overlapping frames in the frequency domain, which NumPy does in a millisecond or two a word.
"""

from dataclasses import dataclass

import numpy as np

from benchmarks.demo_data.phonemes import DIGITS, Phone

SAMPLE_RATE = 16_000
"""Hz."""

_HOP, _WINDOW, _FFT = 80, 320, 512  # samples: targets every 5 ms, frames of 20 ms, room for the filter to ring
_HIGH_FORMANTS = (3500.0, 4500.0)  # hardly move in speech
_BANDWIDTHS = (70.0, 90.0, 130.0, 220.0, 300.0)  # Hz, Klatt (1980), table I, rounded
_OPENING, _CLOSING = 0.40, 0.10  # shares of a period in which the vocal cords open and close, Rosenberg (1971)
_FREQUENCIES = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE).astype(np.float32)
_DELAY = np.exp(-2j * np.pi * _FREQUENCIES / SAMPLE_RATE).astype(np.complex64)
_SHAPE = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)


@dataclass(frozen=True)
class Voice:
    """Speaker of a clip.

    >>> Voice.draw(np.random.default_rng(0)) == Voice.draw(np.random.default_rng(0))
    True
    """

    pitch: float
    """Hz, in the middle of a word."""
    formant_scale: float
    """1 for an adult male vocal tract; larger is a shorter one."""
    tempo: float
    """Larger is faster."""
    jitter: float
    """Relative irregularity of the pitch."""
    breath: float
    """Noise that accompanies every voiced phone."""
    accent: tuple[float, float, float]
    """Factors on the three formants of every phone."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Voice":
        """A voice between a low and a high one; the high ones have shorter vocal tracts."""
        height = rng.random()
        return cls(
            pitch=90.0 * 2.7**height * _factor(rng, 0.06),
            formant_scale=float(0.9 + 0.28 * height + rng.normal() * 0.03),
            tempo=float(rng.uniform(0.8, 1.3)),
            jitter=float(rng.uniform(0.005, 0.025)),
            breath=float(rng.uniform(0.01, 0.08)),
            accent=(_factor(rng, 0.07), _factor(rng, 0.05), _factor(rng, 0.03)),
        )


def _factor(rng: np.random.Generator, spread: float) -> float:
    """A random factor around 1."""
    return float(np.exp(rng.normal() * spread))


def say_digit(digit: int, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """A recording of ``digit``, float32 ``[s]`` in -1..1 at ``SAMPLE_RATE``; ``rng`` makes no two of them alike.

    >>> word = say_digit(3, Voice.draw(np.random.default_rng(0)), np.random.default_rng(1))
    >>> word.dtype, bool(0.3 < len(word) / SAMPLE_RATE < 1.5)
    (dtype('float32'), True)

    Raises:
        ValueError: if ``digit`` is not 0 to 9.
    """
    if not 0 <= digit < len(DIGITS):
        raise ValueError(f"digit is {digit}; only 0 to 9 can be said")
    tracks = _Tracks(DIGITS[digit], voice, rng)
    samples = len(tracks.voiced) * _HOP
    cords = _cords(samples, voice, rng) * np.repeat(tracks.voiced, _HOP)
    throat = rng.standard_normal(samples, np.float32) * np.repeat(tracks.breath, _HOP)
    teeth = rng.standard_normal(samples, np.float32) * np.repeat(tracks.hiss, _HOP)
    spectrum = (
        _frames(cords + 0.25 * throat) * _vocal_tract(tracks.formants) + 0.5 * _frames(teeth) * tracks.teeth_filter()
    )
    word = _overlap_add(np.fft.irfft(spectrum, _FFT, axis=1).astype(np.float32))
    return _record(word, rng)


class _Tracks:
    """Targets that change smoothly, one value every ``_HOP`` samples."""

    def __init__(self, phones: tuple[Phone, ...], voice: Voice, rng: np.random.Generator) -> None:
        tempo = voice.tempo * np.exp(rng.normal() * 0.07)
        lengths = [phone.milliseconds * np.exp(rng.normal() * 0.12) / tempo for phone in phones]
        counts = np.maximum(2, np.round(np.array(lengths) * SAMPLE_RATE / 1000 / _HOP)).astype(int)
        slip = np.exp(rng.normal(size=(len(phones), 3)) * 0.04)  # nobody hits a target twice
        formants = np.array([phone.formants for phone in phones]) * slip * voice.accent * voice.formant_scale
        self.formants = _smooth(np.repeat(formants, counts, axis=0), 13)
        high = np.broadcast_to(np.array(_HIGH_FORMANTS) * voice.formant_scale, (len(self.formants), 2))
        self.formants = np.concatenate([self.formants, high], axis=1).astype(np.float32)
        levels = np.array([(s.voiced, s.breath, s.hiss) for s in phones]) * np.exp(rng.normal(size=3) * 0.15)
        levels[:, 1] += levels[:, 0] * voice.breath
        self.voiced, self.breath, self.hiss = _smooth(np.repeat(levels, counts, axis=0), 5).astype(np.float32).T
        self.hiss_band = np.repeat(np.array([s.hiss_band for s in phones], np.float32), counts, axis=0)
        self.hiss_band *= np.float32(voice.formant_scale**0.5)

    def teeth_filter(self) -> np.ndarray:
        """Gains ``[t frequencies]`` of the noise that does not pass the vocal tract."""
        middle, width = self.hiss_band[:, :1], self.hiss_band[:, 1:]
        return np.exp(-(((_FREQUENCIES - middle) / width) ** 2))


def _smooth(track: np.ndarray, length: int) -> np.ndarray:
    """``track`` [t c] averaged over ``length`` neighbours with a bell; the ends are held."""
    weights = np.hanning(length + 2)[1:-1]
    held = np.pad(track, ((length // 2, length // 2), (0, 0)), mode="edge")
    return np.stack([np.convolve(held[:, c], weights / weights.sum(), "valid") for c in range(track.shape[1])], axis=1)


def _cords(samples: int, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Change of the air flow through the vocal cords, ``[s]``: Rosenberg's pulses, falling in pitch."""
    frames = samples // _HOP
    wander = np.cumsum(rng.standard_normal(frames)) * voice.jitter * 0.3 + rng.standard_normal(frames) * voice.jitter
    fall = np.linspace(rng.uniform(1.02, 1.2), rng.uniform(0.75, 0.95), frames)
    pitch = np.repeat(voice.pitch * fall * (1.0 + wander), _HOP)
    phase = (np.cumsum(pitch / SAMPLE_RATE) + rng.random()) % 1.0
    opening = 0.5 - 0.5 * np.cos(np.pi * phase / _OPENING)
    closing = np.cos(0.5 * np.pi * (phase - _OPENING) / _CLOSING)
    flow = np.where(phase < _OPENING, opening, np.where(phase < _OPENING + _CLOSING, closing, 0.0))
    return np.diff(flow, prepend=flow[:1]).astype(np.float32) * np.float32(SAMPLE_RATE / voice.pitch / 16)


def _vocal_tract(formants: np.ndarray) -> np.ndarray:
    """Complex gains ``[t frequencies]`` of resonators in series at ``formants`` [t 5], in Hz."""
    gains = np.ones((len(formants), len(_DELAY)), np.complex64)
    for index, bandwidth in enumerate(_BANDWIDTHS):
        radius = np.float32(np.exp(-np.pi * bandwidth / SAMPLE_RATE))
        turn = 2 * radius * np.cos(2 * np.pi * formants[:, index, None] / np.float32(SAMPLE_RATE))
        gains *= (1 - turn + radius**2) / (1 - turn * _DELAY + radius**2 * _DELAY**2)
    return gains


def _frames(signal: np.ndarray) -> np.ndarray:
    """Spectra ``[t frequencies]`` of windowed frames, one around every ``_HOP`` samples of ``signal`` [s]."""
    padded = np.pad(signal, (_WINDOW - _HOP) // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    return np.fft.rfft(windows * _SHAPE, _FFT, axis=1)


def _overlap_add(frames: np.ndarray) -> np.ndarray:
    """The signal ``[s]`` whose frames these are, with what rings on at its end."""
    count, hops = len(frames), -(-_FFT // _HOP)
    blocks = np.pad(frames, ((0, 0), (0, hops * _HOP - _FFT))).reshape(count, hops, _HOP)
    total = np.zeros((count + hops, _HOP), np.float32)
    for hop in range(hops):
        total[hop : hop + count] += blocks[:, hop]
    return total.ravel()


def _record(word: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The word in a room: silence around it, a level, a tilt of the microphone, background noise."""
    word = word / (np.abs(word).max() + 1e-6) * rng.uniform(0.2, 0.8)
    before, after = (int(rng.uniform(0.03, 0.15) * SAMPLE_RATE) for _ in range(2))
    clip = np.pad(word, (before, after)).astype(np.float32)
    clip[1:] += np.float32(rng.uniform(-0.4, 0.2)) * clip[:-1]
    hum = rng.standard_normal(len(clip), np.float32)
    hum[1:] += 0.9 * hum[:-1]
    level = 10 ** rng.uniform(-3.0, -2.0)  # 40 to 60 dB below full scale
    return np.clip(clip + np.float32(level) * hum, -1.0, 1.0)
