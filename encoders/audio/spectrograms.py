"""Feature extractors of spectrogram models, as part of the graph; every clip is brought to one length."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from encoders.audio.mel import MelEnergies, dft_kernels, mel_matrix
from encoders.base import all_real


class Spectrogram(nn.Module, ABC):
    """A waveform as the spectrogram that one kind of model was trained on.

    Args:
        settings: as the model's ``preprocessor_config.json`` has them; those in DEFAULTS are read.
        config: the model's, of transformers.

    Raises:
        ValueError: if the two do not belong together.
    """

    EXTRACTOR: ClassVar[str]
    """transformers' name of what computes the same."""
    DEFAULTS: ClassVar[dict[str, Any]]
    """transformers' own, for settings that a file leaves out."""
    BANDS: ClassVar[str] = "feature_size"
    """Name of the setting with the number of mel bands."""
    max_samples: int
    """Of the waveform; shorter ones are filled up."""

    def __init__(self, settings: Mapping[str, Any], config: Any) -> None:
        super().__init__()
        self.settings = {name: settings.get(name, default) for name, default in self.DEFAULTS.items()}
        self.sample_rate, self.num_bands = int(self.settings["sampling_rate"]), int(self.settings[self.BANDS])
        _require_same(self.BANDS, self.num_bands, config.num_mel_bins)

    @abstractmethod
    def forward(self, waveform: Float[Tensor, "b s"], mask: Bool[Tensor, "b s"]) -> Float[Tensor, "b ..."]:
        """Input of the model."""

    @abstractmethod
    def real_tokens(self, mask: Bool[Tensor, "b s"], tokens: Float[Tensor, "b l d"]) -> Bool[Tensor, "b l"]:
        """Mask of the model's tokens that stand for real samples."""


class AstSpectrogram(Spectrogram):
    """Kaldi's log mel filterbank, as the Audio Spectrogram Transformer reads it.

    Gong et al., 2021, https://arxiv.org/abs/2104.01778. Frames of 25 ms every 10 ms without their mean, with
    preemphasis and a Hann window; missing frames are filled with zeros after the logarithm.
    """

    EXTRACTOR, BANDS = "ASTFeatureExtractor", "num_mel_bins"
    DEFAULTS: ClassVar = {
        "sampling_rate": 16000,
        "num_mel_bins": 128,
        "max_length": 1024,
        "do_normalize": True,
        "mean": -4.2677393,  # of AudioSet
        "std": 4.5689974,
    }

    def __init__(self, settings: Mapping[str, Any], config: Any) -> None:
        super().__init__(settings, config)
        rate, frames = self.sample_rate, self.settings["max_length"]
        _require_same("max_length", frames, config.max_length)
        self.window, hop = rate * 25 // 1000, rate // 100
        self.max_samples = (frames - 1) * hop + self.window
        self.patch_hop = config.time_stride
        self.patches = (frames - config.patch_size) // config.time_stride + 1
        fft_size = 2 ** (self.window - 1).bit_length()
        kernels = dft_kernels(self.window, fft_size, periodic=False) @ kaldi_frame(self.window)
        matrix = mel_matrix(rate, fft_size, self.num_bands, 20.0, rate / 2, scale="kaldi")
        self.energies = MelEnergies(kernels, matrix, hop)

    def forward(self, waveform: Float[Tensor, "b s"], mask: Bool[Tensor, "b s"]) -> Float[Tensor, "b t n"]:
        """Normalised log energies."""
        energies = self.energies(_fill(waveform, mask, self.max_samples))
        logarithms = torch.log(energies.clamp_min(1.1920928955078125e-07))  # Kaldi's: float32's epsilon
        real = torch.arange(energies.shape[1], device=mask.device) < self._frames(mask)  # [b t]
        spectrogram = torch.where(real[:, :, None], logarithms, 0.0)
        if not self.settings["do_normalize"]:
            return spectrogram
        return (spectrogram - self.settings["mean"]) / (2.0 * self.settings["std"])

    def _frames(self, mask: Bool[Tensor, "b s"]) -> Tensor:
        """Number of windows that lie in real samples, ``[b 1]``."""
        return (mask.sum(dim=1, keepdim=True) - self.window) // self.energies.hop_size + 1

    def real_tokens(self, mask: Bool[Tensor, "b s"], tokens: Float[Tensor, "b l d"]) -> Bool[Tensor, "b l"]:
        """The two that stand for the whole, and the patches that hold a real frame."""
        starts = torch.arange(self.patches, device=mask.device) * self.patch_hop
        real = starts < self._frames(mask)  # [b patches], for each row of patches
        rows = (tokens.shape[1] - 2) // self.patches
        return F.pad(real.repeat(1, rows), (2, 0), value=True)


class WhisperSpectrogram(Spectrogram):
    """The log mel spectrogram of 30 s, the quietest 80 dB below the loudest, as Whisper's encoder reads it.

    Radford et al., 2022, https://arxiv.org/abs/2212.04356, section 2.2. Shorter clips end in silence.
    """

    EXTRACTOR = "WhisperFeatureExtractor"
    DEFAULTS: ClassVar = {
        "sampling_rate": 16000,
        "feature_size": 80,
        "n_fft": 400,
        "hop_length": 160,
        "chunk_length": 30,
        "dither": 0.0,
    }

    def __init__(self, settings: Mapping[str, Any], config: Any) -> None:
        super().__init__(settings, config)
        rate, window = self.sample_rate, self.settings["n_fft"]
        self.max_samples, hop = self.settings["chunk_length"] * rate, self.settings["hop_length"]
        _require_same("frames in chunk_length", self.max_samples // hop, 2 * config.max_source_positions)
        _require_same("dither", self.settings["dither"], 0.0)  # else the tokens would depend on chance
        matrix = mel_matrix(rate, window, self.num_bands, 0.0, 8000.0, scale="slaney", equal_area=True)
        self.energies = MelEnergies(dft_kernels(window), matrix, hop)

    def forward(self, waveform: Float[Tensor, "b s"], mask: Bool[Tensor, "b s"]) -> Float[Tensor, "b n t"]:
        """Logarithms, about -1 to 1."""
        energies = self.energies(_mirror(_fill(waveform, mask, self.max_samples), self.settings["n_fft"] // 2))
        logarithms = torch.log10(energies[:, :-1].clamp_min(1e-10))
        loudest = logarithms.amax(dim=(1, 2), keepdim=True)
        return ((torch.maximum(logarithms, loudest - 8.0) + 4.0) / 4.0).transpose(1, 2)

    def real_tokens(self, mask: Bool[Tensor, "b s"], tokens: Float[Tensor, "b l d"]) -> Bool[Tensor, "b l"]:
        """Mask of tokens that begin, each two frames after the last, in real samples."""
        starts = torch.arange(tokens.shape[1], device=mask.device) * (2 * self.energies.hop_size)
        return starts < mask.sum(dim=1, keepdim=True)


class ClapSpectrogram(Spectrogram):
    """The mel spectrogram in decibels of 10 s, as CLAP's audio tower without fusion reads it.

    Wu et al., 2022, https://arxiv.org/abs/2211.06687. Shorter clips are repeated as often as they fit; longer ones
    are cut by the preprocessor to their beginning, where the original takes a part by chance.
    """

    EXTRACTOR = "ClapFeatureExtractor"
    DEFAULTS: ClassVar = {
        "sampling_rate": 48000,
        "feature_size": 64,
        "fft_window_size": 1024,
        "hop_length": 480,
        "max_length_s": 10,
        "frequency_min": 0,
        "frequency_max": 14000,
        "truncation": "fusion",
        "padding": "repeatpad",
    }

    def __init__(self, settings: Mapping[str, Any], config: Any) -> None:
        super().__init__(settings, config)
        if config.enable_fusion or self.settings["truncation"] != "rand_trunc":
            raise ValueError(
                "this CLAP model mixes parts of clips longer than 10 s that are chosen by chance (fusion); give one "
                "without, for example laion/clap-htsat-unfused"
            )
        if self.settings["padding"] not in ("pad", "repeat", "repeatpad"):
            raise ValueError(f"CLAP's padding is {self.settings['padding']!r}; give pad, repeat or repeatpad")
        rate, window, hop = self.sample_rate, self.settings["fft_window_size"], self.settings["hop_length"]
        self.max_samples = self.settings["max_length_s"] * rate
        low, high = float(self.settings["frequency_min"]), float(self.settings["frequency_max"])
        matrix = mel_matrix(rate, window, self.num_bands, low, high, scale="slaney", equal_area=True)
        self.energies = MelEnergies(dft_kernels(window), matrix, hop)

    def forward(self, waveform: Float[Tensor, "b s"], mask: Bool[Tensor, "b s"]) -> Float[Tensor, "b 1 t n"]:
        """Decibels."""
        lengths = mask.sum(dim=1, keepdim=True).clamp_min(1)  # [b 1]
        place = torch.arange(self.max_samples, device=mask.device).expand(waveform.shape[0], -1)
        repeated = torch.gather(_fill(waveform, mask, self.max_samples), 1, place % lengths)
        repeated = torch.where(place < self._filled(lengths), repeated, 0.0)
        energies = self.energies(_mirror(repeated, self.settings["fft_window_size"] // 2))
        return 10.0 * torch.log10(energies.clamp_min(1e-10))[:, None]

    def _filled(self, lengths: Tensor) -> Tensor:
        """Number of samples that are not silence."""
        longest = torch.full_like(lengths, self.max_samples)
        if self.settings["padding"] == "repeatpad":
            return longest // lengths * lengths
        return lengths if self.settings["padding"] == "pad" else longest

    def real_tokens(self, mask: Bool[Tensor, "b s"], tokens: Float[Tensor, "b l d"]) -> Bool[Tensor, "b l"]:
        """All: the clip is in each of them."""
        return all_real(tokens)


def kaldi_frame(size: int) -> Float[Tensor, "window window"]:
    """Kaldi's steps before the window, as a matrix: minus the frame's mean, then preemphasis of 0.97; float64."""
    identity = torch.eye(size, dtype=torch.float64)
    before = identity.roll(-1, dims=1).tril()  # the sample before; the first has none but itself
    before[0, 0] = 1.0
    return (identity - 0.97 * before) @ (identity - 1.0 / size)


def _fill(waveform: Float[Tensor, "b s"], mask: Bool[Tensor, "b s"], size: int) -> Float[Tensor, "b size"]:
    """The real samples, then silence up to a fixed length."""
    # padded by more than is needed and then cut, because the exporter then proves the length
    return F.pad(torch.where(mask, waveform, 0.0), (0, size))[:, :size]


def _mirror(waveform: Float[Tensor, "b s"], size: int) -> Float[Tensor, "b _s"]:
    """Continued to both sides by its mirror image, so that the first frame is centred on the first sample."""
    before, after = waveform[:, 1 : size + 1].flip(1), waveform[:, -size - 1 : -1].flip(1)
    return torch.cat([before, waveform, after], dim=1)


def _require_same(setting: str, given: float, needed: float) -> None:
    if not math.isclose(given, needed):
        raise ValueError(
            f"the feature extractor's {setting} is {given}, but the model needs {needed}; take both from one model"
        )
