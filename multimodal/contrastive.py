"""Learning without labels: the two inputs of a record shall find each other among those of the batch."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusion.concat import parts_of
from multimodal.decoding import PairedEmbeddings
from multimodal.heads import Head

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
    say the same (one text for many photos) count as negatives of each other; there are no multi-positive targets.

    Args:
        in_dims: width of the part of *each* input in the fused vector, which keeps them side by side.
        pair: the two inputs.
        shared: whether one encoder reads both.
    """

    def __init__(self, in_dims: Mapping[str, int], pair: tuple[str, str], *, shared: bool) -> None:
        super().__init__()
        self.in_dims, self.pair, self.shared = dict(in_dims), pair, shared
        self.num_outputs, self.null_loss = 2 * WIDTH, 1.0  # ``loss`` knows how many candidates there were
        first, second = (self.in_dims[name] for name in pair)
        self.projections = nn.ModuleList([nn.Linear(first, WIDTH), nn.Linear(second, WIDTH)])
        if shared:
            one = nn.Sequential(nn.Linear(first, first), nn.ReLU(), nn.Linear(first, WIDTH))
            self.projections = nn.ModuleList([one])
        self.log_scale = nn.Parameter(torch.tensor(math.log(SCALE)))

    def forward(self, fused: Float[Tensor, "b f"]) -> Float[Tensor, "b c"]:
        """The embeddings of both inputs, each of length 1, side by side."""
        parts = parts_of(fused, self.in_dims)
        embeddings = [self.projections[0](parts[self.pair[0]]), self.projections[-1](parts[self.pair[1]])]
        return torch.cat([F.normalize(embedding.float(), dim=1) for embedding in embeddings], dim=1)

    def loss(self, outputs: Float[Tensor, "b c"], target: Bool[Tensor, " b"]) -> Float[Tensor, " b"]:
        """``pair_losses`` over that of guessing; 0 for records that lack an input, which are no candidates either.

        Args:
            target: whether a record has both inputs.
        """
        with torch.no_grad():
            self.log_scale.clamp_(max=math.log(MAX_SCALE))  # in place: a clamped copy would pass no gradient back
        rows = target.nonzero()[:, 0]
        first, second = outputs.float()[rows].chunk(2, dim=1)
        with torch.autocast(outputs.device.type, enabled=False):
            losses = pair_losses(first, second, self.log_scale.exp(), within=self.shared)
        candidates = 2 * len(rows) - 1 if self.shared else len(rows)
        return losses.new_zeros(len(outputs)).index_copy(0, rows, losses / math.log(max(2, candidates)))

    def decoding(self) -> PairedEmbeddings:
        """The embeddings as they are."""
        return PairedEmbeddings(self.pair)


def pair_losses(
    first: Float[Tensor, "b d"], second: Float[Tensor, "b d"], scale: Float[Tensor, ""], *, within: bool
) -> Float[Tensor, " b"]:
    """Cross-entropy of finding each record's partner, mean of both directions.

    InfoNCE as in CLIP: the candidates are all ``second`` of a ``first``, b, and the other way round. With ``within``
    NT-Xent as in SimCLR: the other ``first`` are candidates, too, 2b - 1.

    Args:
        first, second: of length 1.
        scale: of their cosines; the inverse of the temperature.
    """
    own, losses = torch.arange(len(first), device=first.device), []
    for anchors, partners in ((first, second), (second, first)):
        logits = scale * anchors @ partners.T  # [b b]
        if within:
            others = scale * anchors @ anchors.T
            logits = torch.cat([logits, others.fill_diagonal_(-math.inf)], dim=1)  # [b 2b]
        losses.append(F.cross_entropy(logits, own, reduction="none"))
    return torch.stack(losses).mean(dim=0)
