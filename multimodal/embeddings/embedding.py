"""Heads whose answer is a vector: records of one label point the same way, those of others do not."""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from multimodal.decoding import Embedding
from multimodal.heads import Head


class EmbeddingHead(Head):
    """A linear projection to a vector of length 1, whatever its loss.

    Args:
        in_dim: width of the fused vector.
        width: of the embedding.
    """

    def __init__(self, in_dim: int, width: int) -> None:
        super().__init__()
        self.num_outputs = width
        self.linear = nn.Linear(in_dim, width)

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
