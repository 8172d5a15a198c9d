"""ArcFace: a direction for each label, which its records must be nearer to than to any other by an angle."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from multimodal.embeddings.embedding import EmbeddingHead

LEAST_SINE_SQUARED = 1e-7  # the root's slope at 0 is infinite


class ArcFaceHead(EmbeddingHead):
    """Embeddings learned with one centre a label, for the loss alone: centres are not exported.

    When not to use: where a label has several looks that have nothing in common (one direction must stand for all).

    Args:
        in_dim, width: as ``EmbeddingHead`` takes them.
        num_labels: how many labels the training records have.
        margin: of the angle to the own centre, in radians.
        temperature: divides the cosines.
    """

    def __init__(
        self, in_dim: int, *, width: int, num_labels: int, margin: float = 0.3, temperature: float = 0.05
    ) -> None:
        super().__init__(in_dim, width)
        self.margin, self.temperature = margin, temperature
        self.centres = nn.Parameter(torch.randn(num_labels, width) / math.sqrt(width))
        own = -math.sin(margin) / temperature  # of cosines that are all 0
        self.null_loss = math.log(math.exp(own) + num_labels - 1) - own

    def label_losses(self, embeddings: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """``arcface_losses`` with the head's own centres."""
        return arcface_losses(embeddings, labels, self.centres, margin=self.margin, temperature=self.temperature)


def arcface_losses(
    embeddings: Float[Tensor, "n c"],
    labels: Int[Tensor, " n"],
    centres: Float[Tensor, "k c"],
    *,
    margin: float,
    temperature: float,
) -> Float[Tensor, " n"]:
    """Cross-entropy over cosines to the centres, the own angle made larger by a margin.

    Deng et al. (2019), https://arxiv.org/abs/1801.07698: ``cos(a + margin)`` in the place of ``cos a`` for the own
    centre. Where ``a + margin`` would pass 180 degrees, and the cosine rise again, it is ``cos a - margin sin margin``,
    which goes on falling, as in the authors' code. Ours differs: the default margin is smaller, for tables smaller
    than theirs.

    Args:
        embeddings: of length 1.
        labels: index of each record's centre.
        margin: radians; 0 is the softmax of scaled cosines.
        temperature: divides the cosines; the inverse of the paper's scale.
    """
    cosines = embeddings @ F.normalize(centres.float(), dim=1).T  # [n k]
    own = cosines.gather(1, labels[:, None])  # [n 1]
    sines = (1 - own.square()).clamp_min(LEAST_SINE_SQUARED).sqrt()
    farther = own * math.cos(margin) - sines * math.sin(margin)
    farther = torch.where(own > -math.cos(margin), farther, own - margin * math.sin(margin))
    return F.cross_entropy(cosines.scatter(1, labels[:, None], farther) / temperature, labels, reduction="none")
