"""Weighted means of weights, and what in them cannot be averaged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

State = Mapping[str, Tensor]
"""What ``model.state_dict()`` gives."""

_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True, eq=False)
class AveragedState:
    """Averaged weights, to be loaded into a model of the same kind."""

    state: dict[str, Tensor]
    re_estimate: tuple[str, ...]
    """Running statistics of BatchNorm that differed: the averaged model has others. Estimate them on training
    records before it answers, for example with ``torch.optim.swa_utils.update_bn``."""


def average_states(states: Sequence[State], weights: Sequence[float]) -> AveragedState:
    """The mean of floating-point tensors; what all states have alike stays bit-identical; counters are the last's.

    When not to use: for models that were not fine-tuned from one start: between their weights lies nothing.

    Args:
        states: of one kind of model.
        weights: of each, sum 1; a weight of 1 gives that state bit-exactly.

    Raises:
        ValueError: if names or shapes differ, or the weights do not sum to 1.
    """
    if len(states) != len(weights) or not states or abs(sum(weights) - 1.0) > 1e-6:
        raise ValueError(f"there are {len(states)} states and weights {list(weights)}; give one each, with sum 1")
    _check_alike(states)
    used = [(state, weight) for state, weight in zip(states, weights, strict=True) if weight != 0]
    result, changed = {}, []
    for name, last in states[-1].items():
        tensors = [state[name] for state, _ in used]
        if not last.is_floating_point():
            result[name] = last.detach().clone()
        elif all(torch.equal(tensor, tensors[0]) for tensor in tensors[1:]):
            result[name] = tensors[0].detach().clone()
        else:
            terms = [tensor.detach().double() * weight for tensor, (_, weight) in zip(tensors, used, strict=True)]
            result[name] = torch.stack(terms).sum(dim=0).to(last.dtype)
            if name.rpartition(".")[2] in _STATISTICS:
                changed.append(name)
    return AveragedState(result, tuple(changed))


def _check_alike(states: Sequence[State]) -> None:
    shapes = [{name: tuple(tensor.shape) for name, tensor in state.items()} for state in states]
    for other in shapes[1:]:
        differing = sorted({name for name, _ in shapes[0].items() ^ other.items()})
        if differing:
            raise ValueError(
                f"the states differ in {differing[:3]} ({len(differing)} tensors in all); "
                "average models of one architecture with the same heads"
            )
