"""Heads that see one input each: auxiliary heads, and those of late fusion."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusion.concat import parts_of
from fusion.names import NamedModules
from multimodal.model.heads import Head, HeadOver


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


class LateHead(HeadOver):
    """One task's heads over single inputs, as a product of experts.

    Given the answer, inputs are taken to say independent things, so that their evidence adds up (Hinton, 2002,
    https://doi.org/10.1162/089976602760128018). An expert weight per input, fitted on records that were not trained
    on, makes up for experts that know their training records better than new ones, or say the same thing twice. A
    missing input adds nothing.

    Args:
        heads: input name -> head over its part of what ``LateFusion`` gives.
        in_dims: dimension of the part of *each* input of the fusion.

    Legend: m inputs of this task, b records, c outputs.
    """

    expert_weights: Float[Tensor, " m"]

    def __init__(self, heads: Mapping[str, Head], in_dims: Mapping[str, int]) -> None:
        super().__init__()
        self.names = tuple(heads)
        self.heads = NamedModules(dict(heads))
        self.in_dims = dict(in_dims)
        self.register_buffer("expert_weights", torch.ones(len(heads)))
        self.num_outputs, self.chance_loss = self.one.num_outputs, self.one.chance_loss

    @property
    def one(self) -> Head:
        """One of the heads: they differ in their inputs only."""
        return self.head(self.names[0])

    def head(self, name: str) -> Head:
        """The head over one input."""
        head = self.heads[name]
        assert isinstance(head, Head)
        return head

    def forward(
        self, fused: Float[Tensor, "b f"], present: Mapping[str, Bool[Tensor, " b"]] | None = None
    ) -> Float[Tensor, "b c"]:
        """Outputs of all inputs of a record together; the prior where it has none.

        Args:
            present: input name -> which records have it; None: all have all. The fused vector does not say: a
                constant token and one of dimension 1 are normalised to zeros as well.
        """
        outputs, weights = torch.stack(list(self.outputs(fused).values())), self.expert_weights[:, None]
        if present is not None:
            weights = weights * torch.stack([present[name] for name in self.names])
        return self.combine(outputs, weights.expand(outputs.shape[:2]))

    def outputs(self, fused: Float[Tensor, "b f"]) -> dict[str, Float[Tensor, "b c"]]:
        """Input -> what it says alone, without its expert weight."""
        parts = parts_of(fused, self.in_dims)
        return {name: self.head(name)(parts[name]) for name in self.names}

    def fit_expert_weights(self, outputs: Float[Tensor, "m b c"], present: Bool[Tensor, "m b"], target: Tensor) -> None:
        """Sets the expert weights that give the smallest loss on records that were not trained on.

        Their logarithms are drawn to 0 as strongly as one record could, for tables that cannot tell them.
        """
        logs = torch.zeros(len(self.names), device=outputs.device, requires_grad=True)
        optimizer = torch.optim.LBFGS([logs], max_iter=100, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            combined = self.combine(outputs, present * logs.exp()[:, None])
            loss = (self.loss(combined, target).sum() + logs.square().sum()) / max(1, len(target))
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(closure)
        self.expert_weights.copy_(logs.detach().exp())
