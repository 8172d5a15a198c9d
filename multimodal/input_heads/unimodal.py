"""Auxiliary heads that see one input each: they keep an encoder learning beside a stronger one."""

from collections.abc import Mapping

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fusion.names import NamedModules
from multimodal.heads import Head


class UnimodalHeads(nn.Module):
    """For each task a head over each input that it uses; serves the loss alone and is not exported.

    Where a strong input explains the training labels, a joint loss leaves little to learn to the others (Du et al.,
    2023, https://arxiv.org/abs/2305.01233).

    Args:
        heads: task name -> input name -> head over the input's mean token, brought to mean 0 and variance 1.
        weight: of their losses, relative to that of their task.
        dropout: probability of dropping an element of the mean token while training.
    """

    def __init__(
        self,
        heads: Mapping[str, Mapping[str, Head]],
        *,
        weight: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads = NamedModules({task: NamedModules(dict(parts)) for task, parts in heads.items()})
        self.names = {task: tuple(parts) for task, parts in heads.items()}
        """Task -> inputs over which it has a head."""
        self.weight, self.dropout = weight, dropout

    def head(self, task: str, name: str) -> Head:
        """The head of a task over one input."""
        heads = self.heads[task]
        assert isinstance(heads, NamedModules)
        head = heads[name]
        assert isinstance(head, Head)
        return head

    def forward(self, pooled: Mapping[str, Float[Tensor, "b _d"]]) -> dict[str, dict[str, Float[Tensor, "b _c"]]]:
        """Outputs of every head."""
        normal = {name: F.layer_norm(vector, vector.shape[1:]) for name, vector in pooled.items()}
        seen = {name: F.dropout(vector, self.dropout, self.training) for name, vector in normal.items()}
        return {task: {name: self.head(task, name)(seen[name]) for name in names} for task, names in self.names.items()}
