"""Supervised contrastive learning: records of one label attract each other among those of the batch."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from multimodal.embeddings.embedding import EmbeddingHead


class SupConHead(EmbeddingHead):
    """Embeddings learned from the other records of the batch, without centres.

    The batch is what one forward pass sees: one part of an accumulated step, the records of one process.

    When not to use: where there are more labels than records in a batch, so that few records meet one of their own
    label, unless the batch is made of groups (``LabelOrder``); ``ArcFaceHead`` does not depend on the batch.

    Args:
        in_dim, width: as ``EmbeddingHead`` takes them.
        temperature: divides the cosines.
    """

    null_loss = 1.0  # ``label_losses`` knows how many candidates there were

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
