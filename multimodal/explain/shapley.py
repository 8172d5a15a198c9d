"""Contributions of inputs: exact Shapley values over the presence flags. Never imports torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial

import numpy as np

from multimodal.explain.explanation_target import ExplanationTarget
from multimodal.inference.record_model import RecordModel, Sample

MAX_INPUTS = 4
"""Present inputs of a record, which need 16 forward passes."""
_NOTHING = 1e-6  # in log-odds or the data's unit: the effect of another batch on the same numbers

Subset = frozenset[str]


@dataclass(frozen=True)
class Contributions:
    """Prediction, distributed over the inputs of a record."""

    all: float
    """Of the whole record."""
    none: float
    """With every input hidden."""
    values: dict[str, float]
    """Input -> its share; they sum to ``all - none``."""
    unused: frozenset[str]
    """Inputs without any effect."""


def subsets_of(players: Sequence[str]) -> list[Subset]:
    """Every combination, the empty one first.

    Raises:
        ValueError: if there are more than ``MAX_INPUTS``.
    """
    if len(players) > MAX_INPUTS:
        raise ValueError(
            f"the record has {len(players)} inputs, and every combination of at most {MAX_INPUTS} is tried; leave some "
            "of their cells empty"
        )
    return [frozenset(chosen) for size in range(len(players) + 1) for chosen in combinations(players, size)]


def shapley_values(players: Sequence[str], value: Mapping[Subset, float]) -> dict[str, float]:
    """Each player's mean contribution over all orders of joining: sum over S of |S|! (m - |S| - 1)! / m! times the
    difference that it makes to S.

    Shapley (1953), https://doi.org/10.1515/9781400881970-018.

    Args:
        value: of every combination of players.

    >>> alone, both = {frozenset("a"): 0.6, frozenset("b"): 0.2}, {frozenset(): 0.0, frozenset("ab"): 1.0}
    >>> {name: round(share, 3) for name, share in shapley_values(("a", "b"), alone | both).items()}
    {'a': 0.7, 'b': 0.3}
    """
    m = len(players)
    shares = dict.fromkeys(players, 0.0)
    for subset in value:
        for player in set(players) - subset:
            weight = factorial(len(subset)) * factorial(m - len(subset) - 1) / factorial(m)
            shares[player] += weight * (value[subset | {player}] - value[subset])
    return shares


def contributions(box: RecordModel, sample: Sample, targets: Sequence[ExplanationTarget]) -> list[Contributions]:
    """Contributions of each input to the amount of each target; 0 for missing inputs.

    Raises:
        ValueError: if the record has more than ``MAX_INPUTS``.
    """
    players = [name for name, (_, present) in sample.items() if present]
    subsets = subsets_of(players)
    outputs = box.outputs([shown(sample, subset) for subset in subsets])
    found = []
    for target in targets:
        amounts = dict(zip(subsets, target.amount(outputs).tolist(), strict=True))
        evidence = dict(zip(subsets, target.evidence(outputs).tolist(), strict=True))
        values = dict.fromkeys(sample, 0.0) | shapley_values(players, amounts)
        unused = frozenset(name for name in sample if _largest_difference(evidence, name) <= _NOTHING)
        found.append(Contributions(amounts[frozenset(players)], amounts[frozenset()], values, unused))
    return found


def shown(sample: Sample, subset: Subset) -> Sample:
    """The sample with these inputs alone; the others are hidden as if the record did not have them."""
    return {name: (arrays, present and name in subset) for name, (arrays, present) in sample.items()}


def _largest_difference(value: Mapping[Subset, float], player: str) -> float:
    pairs = [(value[subset | {player}], value[subset]) for subset in value if subset | {player} in value]
    return float(np.max([abs(with_it - without) for with_it, without in pairs], initial=0.0))
