"""What the gradient cosines of a training say: which tasks work against each other. Never imports torch."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

COSINE = "gradient_cosine"
"""Begins the columns of the history: ``gradient_cosine.TASK.TASK``."""
FEWEST = 3
"""Epochs below which nothing is said."""
CLEARLY = -0.05
"""Mean cosine from which on a conflict is worth a line; gradients that have nothing to do with each other have 0."""


def summarise_cosines(history: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """ "TASK.TASK" -> mean over the epochs, its standard error (None for one epoch) and the number of epochs.

    >>> summarise_cosines([{"gradient_cosine.a.b": 0.5}, {"loss": 1.0}, {"gradient_cosine.a.b": 0.0}])
    {'a.b': {'mean': 0.25, 'error': 0.25, 'epochs': 2}}
    """
    pairs = dict.fromkeys(key for entry in history for key in entry if key.startswith(f"{COSINE}."))
    summary: dict[str, dict[str, float | None]] = {}
    for pair in pairs:
        values = np.array([entry[pair] for entry in history if pair in entry])
        error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
        summary[pair.removeprefix(f"{COSINE}.")] = {"mean": float(values.mean()), "error": error, "epochs": len(values)}
    return summary


def conflict_lines(summary: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """One line for each two tasks whose mean cosine is clearly below zero, with what to try.

    >>> conflict_lines({"a.b": {"mean": -0.2, "error": 0.01, "epochs": 5}})[0][:73]
    'a and b pull what they share in opposite directions: mean gradient cosine'
    >>> conflict_lines({"a.b": {"mean": -0.2, "error": 0.3, "epochs": 5}})
    []
    """
    lines = []
    for pair, found in summary.items():
        mean, error, epochs = found["mean"], found["error"], found["epochs"]
        if mean is None or error is None or epochs is None or epochs < FEWEST:
            continue
        if mean < CLEARLY and mean + 2 * error < 0:
            first, _, second = pair.partition(".")
            lines.append(
                f"{first} and {second} pull what they share in opposite directions: mean gradient cosine {mean:.2f} "
                f"over {epochs} epochs; try train.task_weighting: pcgrad, a tower of their own "
                f"(tasks.{first}.tower: [128]), or a job each"
            )
    return lines
