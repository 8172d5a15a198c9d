"""Greedy soup: the mean of those fine-tuned models that help each other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from multimodal.transfer.averaging.states import AveragedState, State, average_states


@dataclass(frozen=True, eq=False)
class Soup:
    """What was averaged, and how good it is on the validation records."""

    average: AveragedState
    members: tuple[str, ...]
    score: float


def greedy_soup(
    states: Mapping[str, State], scores: Mapping[str, float], evaluate: Callable[[AveragedState], float]
) -> Soup:
    """Goes through the models from the best to the worst, and keeps each whose average with those kept is no worse.

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
    return Soup(average, tuple(members), best)
