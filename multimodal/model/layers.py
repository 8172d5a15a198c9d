"""Layers over an encoder's tokens, and of one task alone."""

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from multimodal.model.heads import Head, HeadOver


class NewLayers(nn.Sequential):
    """Residual layers over each token, near the identity when training begins.

    Each adds to its input what a layer norm, a linear layer, a GELU and a linear layer make of it: the feed-forward
    part of a transformer, whose last weights begin small, as in adapters (Houlsby et al., 2019,
    https://arxiv.org/abs/1902.00751, section 2.1), so that heads first see the encoder as it is.

    When not to use: with few labels, where they only add parameters; over an encoder that trains whole, which has
    layers of its own to change.

    Args:
        dim: of the tokens, d.
        count: of layers.
    """

    def __init__(self, dim: int, count: int) -> None:
        super().__init__(*(_Residual(dim, 2 * dim) for _ in range(count)))


class _Residual(nn.Module):
    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.norm, self.widen, self.narrow = nn.LayerNorm(dim), nn.Linear(dim, inner), nn.Linear(inner, dim)
        nn.init.normal_(self.narrow.weight, std=1e-2)  # small, as in adapters; not zero: the layer before learns, too
        nn.init.zeros_(self.narrow.bias)

    def forward(self, tokens: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        return tokens + self.narrow(nn.functional.gelu(self.widen(self.norm(tokens))))


class TowerHead(HeadOver):
    """A head over a private tower: layers that no other task's loss reaches.

    A shared bottom with a tower a task (Caruana, 1997, https://doi.org/10.1023/A:1007379606734): a linear layer and a
    GELU for each dim.

    When not to use: with few records, where a linear head over what is shared overfits less; for a task that agrees
    with the others (``gradient_cosine`` above zero), which loses what they would teach it.

    Args:
        in_dim: dimension of the fused vector.
        dims: of the hidden layers, one or more.
        head: over the last of them.

    Raises:
        ValueError: if there is no dim, or one below 1.

    Legend: b records, f the fused dimension, c outputs.
    """

    def __init__(self, in_dim: int, dims: Sequence[int], head: Head) -> None:
        super().__init__()
        if not dims or min(dims) < 1:
            raise ValueError(f"a tower has the dims {list(dims)}; give at least one, each 1 or more")
        sizes = [in_dim, *dims]
        layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.GELU())]
        self.tower, self.head = nn.Sequential(*layers), head
        self.num_outputs, self.chance_loss = head.num_outputs, head.chance_loss

    @property
    def one(self) -> Head:
        """The head over the tower."""
        return self.head

    def forward(self, fused: Float[Tensor, "b f"]) -> Float[Tensor, "b c"]:
        """Outputs of the head for the tower's last layer."""
        return self.head(self.tower(fused))
