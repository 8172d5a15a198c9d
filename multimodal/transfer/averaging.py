"""Averages of weights: of two ends, of several models, of the steps of one training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

State = Mapping[str, Tensor]
"""Result of ``model.state_dict()``."""

_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True, eq=False)
class AveragedState:
    """Averaged weights, to be loaded into a model of the same kind."""

    state: dict[str, Tensor]
    re_estimate: tuple[str, ...]
    """Running statistics of BatchNorm that differed: estimate them again on training records before inference, for
    example with ``torch.optim.swa_utils.update_bn``."""


def average_states(states: Sequence[State], weights: Sequence[float]) -> AveragedState:
    """Weighted mean of floating-point tensors; tensors equal in all states stay bit-identical; counters are the last's.

    When not to use: for models that were not fine-tuned from one start.

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


class ExponentialAverage:
    """Moving average of weights: average = decay * average + (1 - decay) * weights; counters and statistics are copied.

    Polyak and Juditsky (1992); as a moving average: Tarvainen and Valpola (2017, https://arxiv.org/abs/1703.01780).

    When not to use: with trainings of fewer steps than some 1 / (1 - decay).

    Args:
        model: whose weights it starts from.
        decay: at most; in the first steps (1 + step) / (10 + step), so that random weights are soon forgotten.

    Raises:
        ValueError: if the decay is not in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay is {decay}; give 0 (no average) to below 1, for example 0.999")
        self.decay, self.step = decay, 0
        self.state: dict[str, Tensor] = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes in the weights after one step."""
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        self.step += 1
        learned = {name for name, _ in model.named_parameters()}
        for name, tensor in model.state_dict().items():
            if name in learned and tensor.is_floating_point():
                self.state[name].lerp_(tensor.to(self.state[name]), 1.0 - decay)
            else:
                self.state[name].copy_(tensor)


@dataclass(frozen=True, eq=False)
class SoupWeights:
    """Members of a soup, their average, and its score on the validation records."""

    average: AveragedState
    members: tuple[str, ...]
    score: float


def greedy_soup(
    states: Mapping[str, State], scores: Mapping[str, float], evaluate: Callable[[AveragedState], float]
) -> SoupWeights:
    """Average of models, taken from best to worst, each kept if it does not lower the score of the average.

    Wortsman et al. (2022, https://arxiv.org/abs/2203.05482), recipe 1: never worse than the best model on the
    records that choose; report the score on others.

    When not to use: for models of several starts or architectures.

    Args:
        states: name -> weights of models that were fine-tuned from one start.
        scores: name -> score of the model alone, higher is better.
        evaluate: scores averaged weights on the same validation records; re-estimates what they ask for.

    Raises:
        ValueError: if there is no model, or not one score for each.
    """
    if not states or states.keys() != scores.keys():
        raise ValueError(f"there are models {sorted(states)} and scores of {sorted(scores)}; give one score each")
    first, *others = sorted(states, key=lambda name: -scores[name])
    members, best, average = [first], scores[first], average_states([states[first]], [1.0])
    for name in others:
        candidates = [*members, name]
        mixed = average_states([states[member] for member in candidates], [1 / len(candidates)] * len(candidates))
        score = evaluate(mixed)
        if score >= best:
            members, best, average = candidates, score, mixed
    return SoupWeights(average, tuple(members), best)


def wise_ft(start: State, end: State, alpha: float = 0.5) -> AveragedState:
    """Interpolation of weights: (1 - alpha) start + alpha end.

    Wortsman et al. (2022, https://arxiv.org/abs/2109.01903). Choose alpha on validation records; under a shift a
    half is often better than either end.

    When not to use: from a start without a sensible head (of a probe, or zero-shot): below alpha = 1 that is noise.

    Args:
        start: weights before fine-tuning, with their head.
        end: weights after it.
        alpha: 0 gives the start, 1 the end, both bit-exactly.

    Raises:
        ValueError: if alpha is not in 0..1, or the states differ in names or shapes.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha is {alpha}; give 0 (before fine-tuning) to 1 (after it)")
    return average_states([start, end], [1.0 - alpha, alpha])
