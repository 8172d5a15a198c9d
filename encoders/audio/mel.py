"""The log mel spectrogram as plain convolution and matrix product, so that it exports and runs anywhere."""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

Scale = Literal["htk", "kaldi", "slaney"]


class LogMel(nn.Module):
    """Logarithm of the mel-band energies of a waveform, above that of silence.

    The discrete Fourier transform is a strided Conv1d whose kernels are the windowed cosines and sines; an
    exported STFT operator is slower, loses quiet bands and has no CUDA kernel. Everything is a buffer that is
    not saved: there is nothing to learn and nothing to load.

    Legend: b records, s waveform samples, t frames, n mel bands.

    Args:
        sample_rate: of the waveform, in Hz.
        num_bands: how many mel bands.
        window_size: samples of the Hann window, which is also the length of the transform.
        hop_size: samples from one frame to the next.
        min_hz, max_hz: where the lowest band begins and the highest ends; None is half the sample rate.
        floor: energy added before the logarithm. A full-scale sine has about ``(window_size / 4) ** 2``, so that
            1e-3 lies 70 dB below it for 400 samples; float16 holds both.

    Raises:
        ValueError: if a band would hold no frequency of the transform.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        *,
        num_bands: int = 64,
        window_size: int = 400,
        hop_size: int = 160,
        min_hz: float = 60.0,
        max_hz: float | None = None,
        floor: float = 1e-3,
    ) -> None:
        super().__init__()
        self.hop_size = hop_size
        self.floor = floor
        # frame i is centred on sample i * hop, and a waveform of s samples has ceil(s / hop) frames
        self.padding = (window_size // 2, window_size - window_size // 2 - 1)
        highest = sample_rate / 2 if max_hz is None else max_hz
        matrix = mel_matrix(sample_rate, window_size, num_bands, min_hz, highest)
        if not bool((matrix.sum(dim=0) > 0).all()):
            raise ValueError(
                f"{num_bands} mel bands from {min_hz} to {highest} Hz are narrower than the "
                f"{sample_rate / window_size:g} Hz between frequencies of a window of {window_size} samples; use fewer "
                "bands or a longer window"
            )
        self.energies = MelEnergies(dft_kernels(window_size), matrix, hop_size)

    def forward(
        self, waveform: Float[Tensor, "b s"], mask: Bool[Tensor, "b s"]
    ) -> tuple[Float[Tensor, "b t n"], Bool[Tensor, "b t"]]:
        """Log energies, silence being 0, and the mask of the frames whose centre is a real sample.

        Padding counts as silence.
        """
        energies = self.energies(F.pad(torch.where(mask, waveform, 0.0), self.padding))
        return torch.log(energies + self.floor) - math.log(self.floor), every(mask, self.hop_size)


class MelEnergies(nn.Module):
    """Energies of a waveform in mel bands, a frame for each window that lies wholly in it.

    Args:
        kernels: what each window is multiplied with, ``[2k window]``: the real, then the imaginary parts.
        matrix: how much of each frequency belongs to each band, ``[k n]``.
        hop_size: samples from one frame to the next.
    """

    kernels: Tensor
    matrix: Tensor

    def __init__(self, kernels: Float[Tensor, "2k window"], matrix: Float[Tensor, "k n"], hop_size: int) -> None:
        super().__init__()
        self.hop_size = hop_size
        self.register_buffer("kernels", kernels[:, None].float(), persistent=False)
        self.register_buffer("matrix", matrix.float(), persistent=False)

    def forward(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b t n"]:
        """Sums of squares, in the unit of the waveform."""
        with _exactly(waveform):
            spectrum = F.conv1d(waveform[:, None], self.kernels, stride=self.hop_size)  # [b 2k t]
            real, imaginary = spectrum.chunk(2, dim=1)
            return torch.matmul((real * real + imaginary * imaginary).transpose(1, 2), self.matrix)


def every(mask: Bool[Tensor, "b l"], stride: int) -> Bool[Tensor, "b _l"]:
    """Each ``stride``-th entry: the mask of what a padded convolution with that stride gives.

    As ``mask[:, ::stride]``, written as a pooling because the exporter proves its length equal to a convolution's.
    """
    return F.avg_pool1d(mask.float()[:, None], 1, stride)[:, 0] > 0


def _exactly(tensor: Tensor) -> AbstractContextManager[object]:
    """Without autocast: with bfloat16's 8 bits, a loud tone drowns what is 40 dB below it."""
    device = tensor.device.type
    # entered only where it changes something, for the exporter would put it into the graph
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def dft_kernels(window_size: int, fft_size: int | None = None, *, periodic: bool = True) -> Float[Tensor, "2k window"]:
    """Cosines, then sines, of the frequencies 0 ... rate / 2, under a Hann window; float64.

    Args:
        fft_size: length of the transform, where the window is continued by zeros.
        periodic: whether the window would be 0 again one sample after its end, not at its end.
    """
    size = window_size if fft_size is None else fft_size
    time = torch.arange(window_size, dtype=torch.float64)
    window = 0.5 - 0.5 * torch.cos(2 * math.pi * time / (window_size if periodic else window_size - 1))
    frequency = torch.arange(size // 2 + 1, dtype=torch.float64)
    # the phase modulo one turn first: float error grows with the phase
    phase = 2 * math.pi * (torch.outer(frequency, time) % size) / size
    return torch.cat([torch.cos(phase), torch.sin(phase)]) * window


def mel_matrix(
    sample_rate: int,
    fft_size: int,
    num_bands: int,
    min_hz: float,
    max_hz: float,
    *,
    scale: Scale = "htk",
    equal_area: bool = False,
) -> Float[Tensor, "k n"]:
    """Triangular bands, evenly spaced in mel; float64.

    Args:
        scale: "htk" is 2595 log10(1 + Hz / 700) (O'Shaughnessy, 1987); "kaldi" the same, to three digits, with
            triangles that are straight in mel, not in Hz; "slaney" is linear below 1000 Hz (Auditory Toolbox, 1998).
        equal_area: divides each band by half its width in Hz; else all have height one.
    """
    limits = _to_mel(torch.tensor([min_hz, max_hz], dtype=torch.float64), scale)
    edges = torch.linspace(float(limits[0]), float(limits[1]), num_bands + 2, dtype=torch.float64)  # [n + 2]
    place = torch.arange(fft_size // 2 + 1, dtype=torch.float64)[:, None] * sample_rate / fft_size  # [k 1], in Hz
    if scale == "kaldi":
        place = _to_mel(place, scale)
    else:
        edges = _to_hz(edges, scale)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    matrix = torch.minimum((place - low) / (centre - low), (high - place) / (high - centre)).clamp_min(0.0)
    return matrix * 2.0 / (high - low) if equal_area else matrix


_SLANEY_STEP = math.log(6.4) / 27.0  # from 1000 Hz on, 27 mel to a factor of 6.4


def _to_mel(hz: Tensor, scale: Scale) -> Tensor:
    if scale == "slaney":
        return torch.where(hz < 1000.0, hz * 3.0 / 200.0, 15.0 + torch.log(hz.clamp_min(1.0) / 1000.0) / _SLANEY_STEP)
    return 1127.0 * torch.log1p(hz / 700.0) if scale == "kaldi" else 2595.0 * torch.log10(1.0 + hz / 700.0)


def _to_hz(mel: Tensor, scale: Scale) -> Tensor:
    if scale == "slaney":
        return torch.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * torch.exp((mel - 15.0) * _SLANEY_STEP))
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
