"""compact/audio: a convolutional network over the log mel spectrogram, for short spoken commands."""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from encoders.audio.mel import LogMel, every
from encoders.base import Encoder
from encoders.compact.shared import GatedConv, load_weights
from encoders.preprocessing.audio import AudioPreprocessor

_CHANNELS = (32, 64, 96)
_BANDS = 64
_LEVEL = 0.1  # root mean square that every clip is brought to, so that the floor of the mel lies 50 dB below it


class CompactAudio(Encoder):
    """Two-dimensional convolutions over time and frequency, then over time alone; a token each 40 ms.

    Residual blocks as in ResNet v2 (He et al., 2016, https://arxiv.org/abs/1603.05027), normalised over the
    channels of each point of the spectrogram, which no padding can touch. Loudness is taken out, and the mean and
    deviation of the whole spectrogram; not those of each band, which in a short word are what tells its vowels
    apart.

    Legend: b records, s samples, t frames, n mel bands, l tokens, d the width.

    Args:
        weights: "pretrained" (those of the package), a file with a state_dict, or None for random ones.
        max_seconds: what comes later in a clip is cut off.
        width: of the tokens.
        dropout: probability of dropping a channel of a block, and an element of a token, while training.
    """

    def __init__(
        self,
        *,
        weights: str | Path | None = None,
        max_seconds: float = 10.0,
        width: int = 192,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.modality = "audio"
        self.embed_dim = width
        self.preprocessor = AudioPreprocessor(16000, max_seconds=max_seconds)
        self.arguments = {"max_seconds": max_seconds, "width": width, "dropout": dropout}
        self.mel = LogMel(16000, num_bands=_BANDS)
        first, second, third = _CHANNELS
        self.stem = nn.Conv2d(1, first, (7, 5), stride=(4, 2), padding=(3, 2))  # 20 ms
        self.blocks = nn.ModuleList(
            [
                _Block(first, first, (1, 1), dropout),
                _Block(first, second, (2, 1), dropout),
                _Block(second, third, (2, 2), dropout),  # 40 ms
            ]
        )
        self.project = nn.Linear(third * _BANDS // 16, width)
        self.mix = GatedConv(width, 5, 2 * dropout)
        self.norm = nn.LayerNorm(width)
        load_weights(self, weights)

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """``waveform`` float32 and ``waveform_mask`` bool ``[b s]`` -> one token for each 40 ms."""
        samples = inputs["waveform_mask"]  # [b s]
        spectrum, mask = self.mel(_level(inputs["waveform"], samples), samples)
        x = _standardize(spectrum, mask).transpose(1, 2)[:, None]  # [b 1 n t]
        x = self.stem(x.contiguous(memory_format=torch.channels_last))  # faster, and it keeps _ChannelNorm from copying
        mask = every(mask, 2)
        for block in self.blocks:
            x, mask = block(x, mask)
        tokens = self.project(x.flatten(1, 2).transpose(1, 2))  # [b l d]
        return self.norm(self.mix(tokens, mask)), mask

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Stem, each block, projection, convolution over time, final norm."""
        modules = (self.stem, *self.blocks, self.project, self.mix, self.norm)
        return [list(module.parameters()) for module in modules]


def _level(waveform: Float[Tensor, "b s"], mask: Bool[Tensor, "b s"]) -> Float[Tensor, "b s"]:
    """The waveform at one loudness; silence stays silent."""
    real = mask.to(waveform.dtype)
    # means, not sums: a minute of loud samples adds up to more than float16 holds
    power = (waveform.square() * real).mean(dim=1, keepdim=True) / real.mean(dim=1, keepdim=True).clamp_min(1e-4)
    return waveform * (_LEVEL / (power.sqrt() + 1e-4))


def _standardize(x: Float[Tensor, "b t n"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t n"]:
    """Mean 0 and deviation 1 over the real frames of each record; zero elsewhere."""
    real = mask.to(x.dtype)[:, :, None]  # [b t 1]
    share = real.mean(dim=1, keepdim=True).clamp_min(1e-4)
    centred = (x - (x * real).mean(dim=(1, 2), keepdim=True) / share) * real
    variance = centred.square().mean(dim=(1, 2), keepdim=True) / share
    return centred * torch.rsqrt(variance + 0.1)  # 0.1: noise that is almost silence stays small


class _Block(nn.Module):
    """Twice norm, SiLU and a 3 x 3 convolution, beside a shortcut; padding counts as zero."""

    def __init__(self, in_channels: int, out_channels: int, stride: tuple[int, int], dropout: float) -> None:
        super().__init__()
        self.stride = stride
        self.norm1 = _ChannelNorm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.dropout = nn.Dropout2d(dropout)
        self.norm2 = _ChannelNorm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(
        self, x: Float[Tensor, "b i n t"], mask: Bool[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b o _n _t"], Bool[Tensor, "b _t"]]:
        residual = self.conv1(F.silu(self.norm1(x)) * _as(mask, x))
        mask = every(mask, self.stride[1])
        residual = self.conv2(F.silu(self.norm2(self.dropout(residual))) * _as(mask, x))
        return self.shortcut(F.avg_pool2d(x, (self.stride[0], 1), self.stride)) + residual, mask


class _ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each point of a map ``[b c n t]``."""

    def forward(self, input: Float[Tensor, "b c n t"]) -> Float[Tensor, "b c n t"]:
        """Normalises; a view and no copy where the map is channels-last."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


def _as(mask: Bool[Tensor, "b t"], x: Tensor) -> Float[Tensor, "b 1 1 t"]:
    return mask.to(x.dtype)[:, None, None]
