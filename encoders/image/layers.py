"""Parts that image encoders of all libraries share: normalisation, and parameters by depth."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


class Normalize(nn.Module):
    """Bytes to what a model was trained on: each colour minus its mean, over its deviation.

    Args:
        mean, std: of each colour, for pixels in 0..1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, pixels: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """In the precision of the buffers, which is the model's."""
        return (pixels.to(self.mean.dtype) / 255.0 - self.mean) / self.std


def blocks_of(modules: Iterable[nn.Module]) -> list[list[nn.Parameter]]:
    """Parameters of the blocks of modules that run one after the other; sequences are opened.

    A norm is no block by itself: it goes with what is before it in its sequence, else with what follows.
    """
    blocks: list[list[nn.Parameter]] = []
    only_norms = True
    for module in modules:
        parameters = list(module.parameters())
        if not parameters:
            continue
        is_norm = isinstance(module, NORMS)
        if type(module).forward is nn.Sequential.forward or isinstance(module, nn.ModuleList):
            blocks.extend(blocks_of(module.children()))
        elif blocks and (is_norm or only_norms):
            blocks[-1].extend(parameters)
        else:
            blocks.append(parameters)
        only_norms = only_norms and is_norm
    return blocks
