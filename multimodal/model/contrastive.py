"""Learning without labels: the two inputs of a record learn to find each other among those of the batch."""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from fusion.concat import parts_of
from multimodal.decoding import PairedEmbeddings
from multimodal.model.heads import Head, HeadPlace, Sees

WIDTH = 128
"""Of an embedding, as in SimCLR."""
SCALE, MAX_SCALE = 1 / 0.07, 100.0
"""Of cosines as logits: at first, and at most; both as in CLIP."""


class ContrastiveHead(Head):
    """Embeds two inputs so that those of one record point the same way and those of others do not.

    Two views of one value, which share an encoder, as in SimCLR (Chen et al., 2020,
    https://arxiv.org/abs/2002.05709): one projection of two layers, and every other view of the batch is a negative.
    Inputs with encoders of their own as in CLIP (Radford et al., 2021, https://arxiv.org/abs/2103.00020): a linear
    projection each, and negatives are the others' inputs of the other kind. Ours differs: both learn the temperature.

    The batch is what one forward pass sees: one part of an accumulated step, the records of one process. Records that
    say the same (one text for many photos) are right answers for each other, as in ``pair_losses``.

    Args:
        in_dims: dimension of the part of *each* input in the vector that the head sees.
        pair: the two inputs.
        shared: whether one encoder reads both.
        mixed: whether the fusion mixes its inputs, so that the head has to see their mean tokens instead.
    """

    sees: Sees = "mean_tokens"

    @classmethod
    def build(cls, place: HeadPlace, **arguments: Any) -> "ContrastiveHead":
        """Over the two inputs of the task."""
        first, second = place.inputs
        shared = place.encoder_of[first] == place.encoder_of[second]
        return cls(place.in_dims, (first, second), shared=shared, mixed=not place.is_separated)

    def __init__(self, in_dims: Mapping[str, int], pair: tuple[str, str], *, shared: bool, mixed: bool = False) -> None:
        super().__init__()
        self.sees = "mean_tokens" if mixed else "fused"
        self.in_dims, self.pair, self.shared = dict(in_dims), pair, shared
        self.num_outputs, self.chance_loss = 2 * WIDTH, 1.0  # ``loss`` knows how many candidates there were
        first, second = (self.in_dims[name] for name in pair)
        self.projections = nn.ModuleList([nn.Linear(first, WIDTH), nn.Linear(second, WIDTH)])
        if shared:
            one = nn.Sequential(nn.Linear(first, first), nn.ReLU(), nn.Linear(first, WIDTH))
            self.projections = nn.ModuleList([one])
        self.log_scale = nn.Parameter(torch.tensor(math.log(SCALE)))

    def forward(self, fused: Float[Tensor, "b f"]) -> Float[Tensor, "b c"]:
        """The embeddings of both inputs, each of length 1, side by side."""
        parts = [parts_of(fused, self.in_dims)[name] for name in self.pair]
        if self.sees == "mean_tokens":
            parts = [F.layer_norm(part, part.shape[1:]) for part in parts]  # as a fusion that keeps them apart does
        embeddings = [self.projections[0](parts[0]), self.projections[-1](parts[1])]
        return torch.cat([F.normalize(embedding.float(), dim=1) for embedding in embeddings], dim=1)

    def loss(self, outputs: Float[Tensor, "b c"], target: Int[Tensor, "b 2"]) -> Float[Tensor, " b"]:
        """``pair_losses`` over that of guessing; 0 for records without an input, which are no candidates either.

        Args:
            target: a number for the content of each input; 0 where the record has none.
        """
        with torch.no_grad():
            self.log_scale.clamp_(max=math.log(MAX_SCALE))  # in place: a clamped copy would pass no gradient back
        rows = target.all(dim=1).nonzero()[:, 0]
        first, second = outputs.float()[rows].chunk(2, dim=1)
        same = same_content(target[rows])
        with torch.autocast(outputs.device.type, enabled=False):
            losses = pair_losses(first, second, self.log_scale.exp(), within=self.shared, same=same)
        candidates = 2 * len(rows) - 1 if self.shared else len(rows)
        return losses.new_zeros(len(outputs)).index_copy(0, rows, losses / math.log(max(2, candidates)))

    def decoding(self) -> PairedEmbeddings:
        """The embeddings as they are."""
        return PairedEmbeddings(self.pair)


def same_content(numbers: Int[Tensor, "b 2"]) -> Bool[Tensor, "b b"]:
    """True where two records hold the same in either input."""
    return (numbers[:, None] == numbers).any(dim=2)


def pair_losses(
    first: Float[Tensor, "b d"],
    second: Float[Tensor, "b d"],
    scale: Float[Tensor, ""],
    *,
    within: bool,
    same: Bool[Tensor, "b b"] | None = None,
) -> Float[Tensor, " b"]:
    """Cross-entropy of finding each record's partner, mean of both directions.

    InfoNCE as in CLIP: the candidates are all ``second`` of a ``first``, b, and the other way round. With ``within``
    NT-Xent as in SimCLR: the other ``first`` are candidates, too, 2b - 1.

    A record that is the ``same`` as k others has more than one right answer, which are looked for in equal shares
    (supervised contrastive learning, Khosla et al., 2020, https://arxiv.org/abs/2004.11362, equation 2); the loss then
    ends at ln(k + 1), not at 0.

    When not to use ``same``: where equal content does not mean that records belong together (a default text).

    Args:
        first, second: of length 1.
        scale: of their cosines; the inverse of the temperature.
        same: symmetric, True on the diagonal; None: every record is the same as itself alone.
    """
    own = torch.eye(len(first), dtype=torch.bool, device=first.device)
    same, losses = own if same is None else same, []
    for anchors, partners in ((first, second), (second, first)):
        logits, right = scale * anchors @ partners.T, same  # [b b]
        if within:
            others = scale * anchors @ anchors.T
            logits = torch.cat([logits, others.fill_diagonal_(-math.inf)], dim=1)  # [b 2b]
            right = torch.cat([same, same & ~own], dim=1)
        found = logits.log_softmax(dim=1).where(right, 0.0)  # a product with zero would make NaN of -inf
        losses.append(-found.sum(dim=1) / right.sum(dim=1))
    return torch.stack(losses).mean(dim=0)
