"""Heads whose outputs are a vector, near for records of one label: ArcFace and SupCon."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from multimodal.decoding import Embedding
from multimodal.model.heads import Head, HeadPlace


class EmbeddingHead(Head):
    """A linear projection to a vector of length 1, whatever its loss.

    Args:
        in_dim: dimension of the fused vector.
        width: of the embedding.
    """

    def __init__(self, in_dim: int, width: int) -> None:
        super().__init__()
        self.num_outputs = width
        self.linear = nn.Linear(in_dim, width)

    @classmethod
    def build(cls, place: HeadPlace, **arguments: Any) -> "EmbeddingHead":
        """The head of a loss, "arcface" or "supcon"."""
        labels: Sequence[str] = arguments.pop("labels")
        if arguments.pop("loss") == "arcface":
            return ArcFaceHead(place.dim, num_labels=len(labels), **arguments)
        return SupConHead(place.dim, **arguments)

    def forward(self, fused: Float[Tensor, "b f"]) -> Float[Tensor, "b c"]:
        """The embeddings."""
        return F.normalize(self.linear(fused).float(), dim=1)

    def loss(self, outputs: Float[Tensor, "b c"], target: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Loss of each record over that of embeddings that know nothing; 0 where the target is below 0."""
        rows = (target >= 0).nonzero()[:, 0]
        with torch.autocast(outputs.device.type, enabled=False):  # float16 cannot tell near cosines
            losses = self.label_losses(outputs.float()[rows], target[rows])
        return losses.new_zeros(len(outputs)).index_copy(0, rows, losses)

    @abstractmethod
    def label_losses(self, embeddings: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Loss of each of the records whose label is known."""

    def decoding(self) -> Embedding:
        """The embedding as it is."""
        return Embedding()


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
        self.chance_loss = math.log(math.exp(own) + num_labels - 1) - own

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
    which keeps falling, as in the authors' code. Ours differs: the default margin is smaller, for tables smaller
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


class SupConHead(EmbeddingHead):
    """Embeddings learned from the other records of the batch, without centres.

    The batch is what one forward pass sees: one part of an accumulated step, the records of one process.

    When not to use: where there are more labels than records in a batch, so that few records meet one of their own
    label, unless the batch is made of groups (``LabelOrder``); ``ArcFaceHead`` does not depend on the batch.

    Args:
        in_dim, width: as ``EmbeddingHead`` takes them.
        temperature: divides the cosines.
    """

    chance_loss = 1.0  # ``label_losses`` knows how many candidates there were

    def __init__(self, in_dim: int, *, width: int, temperature: float = 0.1) -> None:
        super().__init__(in_dim, width)
        self.temperature = temperature

    def label_losses(self, embeddings: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """``supcon_losses`` over that of guessing."""
        candidates = max(2, len(labels) - 1)
        return supcon_losses(embeddings, labels, temperature=self.temperature) / math.log(candidates)


def supcon_losses(
    embeddings: Float[Tensor, "n c"], labels: Int[Tensor, " n"], *, temperature: float
) -> Float[Tensor, " n"]:
    """Cross-entropy of finding a record of the same label among all others, mean over those there are.

    Khosla et al. (2020), https://arxiv.org/abs/2004.11362, the loss that they call "out". Ours differs: a record
    enters once, not as two views, so that one whose label occurs once in the batch has nothing to find, and a loss
    of 0.

    Args:
        embeddings: of length 1.
        labels: equal where records belong together.
        temperature: divides the cosines.
    """
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    logits = (embeddings @ embeddings.T / temperature).masked_fill(itself, -1e9)  # [n n]; -inf times 0 is not 0
    positives = (labels[:, None] == labels) & ~itself
    log_shares = logits.log_softmax(dim=1).masked_fill(~positives, 0.0)
    return -log_shares.sum(dim=1) / positives.sum(dim=1).clamp_min(1)
