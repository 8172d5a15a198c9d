"""compact/image: a residual network of half a million parameters for photos of about 100 pixels."""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from encoders.base import Encoder, all_real
from encoders.compact.shared import load_weights
from encoders.preprocessing.image import ImagePreprocessor

# mean and deviation of ImageNet over all channels, https://arxiv.org/abs/1512.03385 and its published code
_MEAN, _DEVIATION = 116.0, 58.0
_GROUP_SIZE = 16  # channels that are normalised together, https://arxiv.org/abs/1803.08494, table 3


class CompactImage(Encoder):
    """A pre-activation residual network that learns from a few thousand photos in minutes on a CPU.

    ResNet v2 (He et al., 2016, https://arxiv.org/abs/1603.05027) with GroupNorm and standardized weights (Qiao et
    al., 2019, https://arxiv.org/abs/1903.10520) in the place of BatchNorm. Ours differs: one block a stage, and a
    stem that reduces the image four-fold by itself. Its tokens are the last feature map, row by row.

    Legend: b records, l tokens, d the width, h w pixels.

    Args:
        weights: "pretrained" (those of the package), a file with a state_dict, or None for random ones.
        image_size: pixels of each side; the network's own cells are 16 pixels wide.
        width: of the first stage; the others are in proportion, and the tokens have ``10/3 * width``.

    Raises:
        ValueError: if ``width`` is no multiple of 48 or ``image_size`` is below 32.
    """

    def __init__(self, *, weights: str | Path | None = None, image_size: int = 96, width: int = 48) -> None:
        super().__init__()
        if width < 48 or width % 48:
            raise ValueError(f"width is {width}; give a multiple of 48, which every group of channels divides")
        if image_size < 32:
            raise ValueError(f"image_size is {image_size}; give at least 32 pixels")
        widths = (width, 2 * width, 10 * width // 3)
        self.modality = "image"
        self.embed_dim = widths[-1]
        self.preprocessor = ImagePreprocessor(image_size)
        self.arguments = {"image_size": image_size, "width": width}
        self.stem = StandardizedConv2d(3, width, 6, stride=4, padding=1)
        self.stages = nn.ModuleList(
            [_Block(width, widths[0], 1), _Block(widths[0], widths[1], 2), _Block(widths[1], widths[2], 2)]
        )
        self.norm = _group_norm(widths[-1])
        load_weights(self, weights)

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """``pixels`` uint8 ``[b 3 h w]`` -> one token for each begun cell of 16 x 16 pixels, all real."""
        x = (inputs["pixels"].to(self.stem.weight.dtype) - _MEAN) / _DEVIATION
        x = self.stem(x.contiguous(memory_format=torch.channels_last))  # a sixth faster on a CPU
        for stage in self.stages:
            x = stage(x)
        tokens = F.silu(self.norm(x)).flatten(2).transpose(1, 2)  # [b l d]
        return tokens, all_real(tokens)

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Stem, each stage, final norm."""
        return [list(module.parameters()) for module in (self.stem, *self.stages, self.norm)]


class StandardizedConv2d(nn.Conv2d):
    """A convolution whose kernels have mean 0 and variance 1 / inputs, whatever their parameters are.

    Weight standardization (Qiao et al., 2019, https://arxiv.org/abs/1903.10520), without a bias. Ours differs:
    divided by the root of the number of inputs, so that activations keep their scale.
    """

    def __init__(self, in_channels: int, out_channels: int, size: int, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__(in_channels, out_channels, size, stride=stride, padding=padding, bias=False)

    def forward(self, input: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o _h _w"]:
        """Convolves with the standardized kernels."""
        kernels = self.weight.flatten(1)  # [o n]
        centred = kernels - kernels.mean(dim=1, keepdim=True)
        scale = torch.rsqrt(centred.square().sum(dim=1, keepdim=True) + 1e-4)
        return F.conv2d(input, (centred * scale).view_as(self.weight), None, self.stride, self.padding)


class _Block(nn.Module):
    """Twice norm, SiLU and a 3 x 3 convolution, beside a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.norm1 = _group_norm(in_channels)
        self.conv1 = StandardizedConv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        self.norm2 = _group_norm(out_channels)
        self.conv2 = StandardizedConv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(nn.AvgPool2d(stride, ceil_mode=True))
        if in_channels != out_channels:
            self.shortcut.append(StandardizedConv2d(in_channels, out_channels, 1))

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o _h _w"]:
        residual = self.conv1(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(residual)))


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // _GROUP_SIZE, channels)
