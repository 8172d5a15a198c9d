"""The log mel spectrogram as plain convolution and matrix product, so that it exports and runs anywhere."""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


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
        self.register_buffer("kernels", dft_kernels(window_size), persistent=False)
        self.register_buffer("matrix", matrix, persistent=False)

    kernels: Tensor
    matrix: Tensor

    def forward(
        self, waveform: Float[Tensor, "b s"], mask: Bool[Tensor, "b s"]
    ) -> tuple[Float[Tensor, "b t n"], Bool[Tensor, "b t"]]:
        """Log energies, silence being 0, and the mask of the frames whose centre is a real sample.

        Padding counts as silence.
        """
        silent = torch.where(mask, waveform, 0.0)[:, None]  # [b 1 s]
        with _exactly(waveform):
            spectrum = F.conv1d(F.pad(silent, self.padding), self.kernels, stride=self.hop_size)  # [b 2k t]
            real, imaginary = spectrum.chunk(2, dim=1)
            energies = torch.matmul((real * real + imaginary * imaginary).transpose(1, 2), self.matrix)  # [b t n]
        return torch.log(energies + self.floor) - math.log(self.floor), every(mask, self.hop_size)


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


def dft_kernels(window_size: int) -> Float[Tensor, "2k 1 window"]:
    """Cosines, then sines, of the frequencies 0 ... window_size / 2, under a periodic Hann window."""
    time = torch.arange(window_size, dtype=torch.float64)
    window = 0.5 - 0.5 * torch.cos(2 * math.pi * time / window_size)
    frequency = torch.arange(window_size // 2 + 1, dtype=torch.float64)
    # the phase modulo one turn first: float error grows with the phase
    phase = 2 * math.pi * (torch.outer(frequency, time) % window_size) / window_size
    return (torch.cat([torch.cos(phase), torch.sin(phase)]) * window)[:, None].float()


def mel_matrix(
    sample_rate: int, window_size: int, num_bands: int, min_hz: float, max_hz: float
) -> Float[Tensor, "k n"]:
    """Triangular bands of height one, evenly spaced in mel: 2595 log10(1 + Hz / 700) (O'Shaughnessy, 1987)."""
    mel = torch.linspace(_mel(min_hz), _mel(max_hz), num_bands + 2, dtype=torch.float64)
    edges = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)  # [n + 2], in Hz
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    hz = torch.arange(window_size // 2 + 1, dtype=torch.float64)[:, None] * sample_rate / window_size  # [k 1]
    matrix = torch.minimum((hz - low) / (centre - low), (high - hz) / (high - centre)).clamp_min(0.0)
    if not bool((matrix.sum(dim=0) > 0).all()):
        raise ValueError(
            f"{num_bands} mel bands from {min_hz} to {max_hz} Hz are narrower than the {sample_rate / window_size:g} "
            f"Hz between frequencies of a window of {window_size} samples; use fewer bands or a longer window"
        )
    return matrix.float()


def _mel(hz: float) -> float:
    return 2595.0 * math.log10(1.0 + hz / 700.0)
