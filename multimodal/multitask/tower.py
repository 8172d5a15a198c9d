"""Layers of one task alone, between what all tasks share and its head."""

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from multimodal.decoding import Decoding
from multimodal.heads import Head


class TowerHead(Head):
    """A head over a private tower: layers that no other task's loss reaches.

    A shared bottom with a tower a task (Caruana, 1997, https://doi.org/10.1023/A:1007379606734): a linear layer and a
    GELU for each width.

    When not to use: with few records, where a linear head over what is shared overfits less; for a task that agrees
    with the others (``gradient_cosine`` above zero), which loses what they would teach it.

    Args:
        in_dim: width of the fused vector.
        widths: of the hidden layers, one or more.
        head: over the last of them.

    Raises:
        ValueError: if there is no width, or one below 1.

    Legend: b records, f the fused width, c outputs.
    """

    def __init__(self, in_dim: int, widths: Sequence[int], head: Head) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"a tower has the widths {list(widths)}; give at least one, each 1 or more")
        sizes = [in_dim, *widths]
        layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.GELU())]
        self.tower, self.head = nn.Sequential(*layers), head
        self.num_outputs, self.null_loss = head.num_outputs, head.null_loss

    def forward(self, fused: Float[Tensor, "b f"]) -> Float[Tensor, "b c"]:
        """What the head says of the tower's last layer."""
        return self.head(self.tower(fused))

    def loss(self, outputs: Float[Tensor, "b c"], target: Tensor) -> Float[Tensor, " b"]:
        """As the head gives it."""
        return self.head.loss(outputs, target)

    def decoding(self) -> Decoding:
        """As the head gives it."""
        return self.head.decoding()

    def combine(self, answers: Float[Tensor, "m b c"], weights: Float[Tensor, "m b"]) -> Float[Tensor, "b c"]:
        """As the head does."""
        return self.head.combine(answers, weights)
