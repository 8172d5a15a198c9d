"""New layers on top of an encoder, which may stay frozen below them."""

from jaxtyping import Float
from torch import Tensor, nn


class NewLayers(nn.Sequential):
    """Residual layers over each token, near the identity when training begins.

    Each adds to its input what a layer norm, a linear layer, a GELU and a linear layer make of it: the feed-forward
    part of a transformer, whose last weights begin small, as in adapters (Houlsby et al., 2019,
    https://arxiv.org/abs/1902.00751, section 2.1), so that heads first see the encoder as it is.

    When not to use: with few labels, where they only add parameters; over an encoder that trains whole, which has
    layers of its own to change.

    Args:
        width: of the tokens, d.
        count: of layers.
        expansion: how many times wider a layer is inside.
    """

    def __init__(self, width: int, count: int, *, expansion: int = 2) -> None:
        super().__init__(*(_Residual(width, width * expansion) for _ in range(count)))


class _Residual(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm, self.widen, self.narrow = nn.LayerNorm(width), nn.Linear(width, inner), nn.Linear(inner, width)
        nn.init.normal_(self.narrow.weight, std=1e-2)  # small, as in adapters; not zero: the layer before learns, too
        nn.init.zeros_(self.narrow.bias)

    def forward(self, tokens: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        return tokens + self.narrow(nn.functional.gelu(self.widen(self.norm(tokens))))
