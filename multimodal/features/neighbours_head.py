"""The head of nearest neighbours: its buffers are the training records."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from multimodal.decoding import Softmax
from multimodal.model.heads import Head
from multimodal.transfer.probes.neighbours import PRIOR_VOTE, SoftNeighbours


class NeighboursHead(Head):
    """Exactly one of ``labels``, by the votes of the training records; nothing in it trains.

    ``SoftNeighbours`` as a module. Before it is filled, or loaded, it knows no record and answers the prior.

    Args:
        in_dim: dim of the fused vector.
        labels: class names; a target is an index into them.
        frequencies: share of training records of each class; None takes them as alike.

    Legend: n training records.
    """

    vectors: Float[Tensor, "n f"]
    votes: Float[Tensor, "n c"]
    centre: Float[Tensor, " f"]
    reads: Float[Tensor, " f"]
    temperature: Float[Tensor, ""]
    shares: Float[Tensor, " c"]

    def __init__(self, in_dim: int, labels: Sequence[str], *, frequencies: Sequence[float] | None = None) -> None:
        super().__init__()
        self.labels = tuple(labels)
        self.num_outputs = len(self.labels)
        self.chance_loss = math.log(max(2, self.num_outputs))
        shares = [1 / self.num_outputs] * self.num_outputs if frequencies is None else frequencies
        self.register_buffer("shares", torch.tensor(shares, dtype=torch.float32))
        self.register_buffer("vectors", torch.zeros(1, in_dim))
        self.register_buffer("votes", torch.zeros(1, self.num_outputs))
        self.register_buffer("centre", torch.zeros(in_dim))
        self.register_buffer("reads", torch.ones(in_dim))  # 0 where the task may not look
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("prior", self.shares.log(), persistent=False)

    def fill(self, probe: SoftNeighbours, columns: np.ndarray) -> None:
        """Takes over the records of a probe that was fitted to some columns of the fused vector."""
        vectors = np.zeros((len(probe.vectors), len(self.centre)))
        vectors[:, columns] = probe.vectors
        centre, reads = np.zeros(len(self.centre)), np.zeros(len(self.centre))
        centre[columns], reads[columns] = probe.centre, 1.0
        for name, values in (
            ("vectors", vectors),
            ("votes", probe.votes),
            ("centre", centre),
            ("reads", reads),
            ("temperature", probe.temperature),
            ("shares", probe.prior),
        ):
            before = getattr(self, name)
            setattr(self, name, torch.as_tensor(values, dtype=before.dtype, device=before.device).contiguous())

    def forward(self, fused: Float[Tensor, "b f"]) -> Float[Tensor, "b c"]:
        """Logarithms of the votes, that of the nearest record being 1."""
        cosines = F.normalize((fused - self.centre) * self.reads, dim=1) @ self.vectors.T  # [b n]
        nearness = ((cosines - cosines.amax(dim=1, keepdim=True)) / self.temperature).exp()
        return (nearness @ self.votes + PRIOR_VOTE * self.shares).log()

    def loss(self, outputs: Float[Tensor, "b c"], target: Tensor) -> Float[Tensor, " b"]:
        """Cross-entropy; ``target`` is int64 [b]."""
        return F.cross_entropy(outputs.float(), target, reduction="none")

    def decoding(self) -> Softmax:
        """The class with most votes."""
        return Softmax(self.labels)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Takes as many records as the file has."""
        for name in ("vectors", "votes"):
            saved = state_dict.get(prefix + name)
            if saved is not None:
                setattr(self, name, getattr(self, name).new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)
