"""The simplest candidate that is as good as the best, as far as one can tell. Never imports torch."""

from collections.abc import Mapping

import numpy as np


def simplest_within_one_error(scores: Mapping[str, np.ndarray]) -> str:
    """Name of the first candidate whose mean is within one standard error of the best mean.

    The rule of Breiman et al., Classification and Regression Trees (1984), section 3.4.3, with the standard error of
    the best candidate over its folds.

    When not to use: where each point counts more than simplicity, or folds are so few that their error is a guess.

    Args:
        scores: name -> score of each fold, [j], higher is better; the simplest candidate first.

    >>> simplest_within_one_error({"probe": np.array([0.8, 0.9]), "finetune": np.array([0.81, 0.91])})
    'probe'

    Raises:
        ValueError: if there is no candidate, or one has fewer than two folds or other folds than the next.
    """
    lengths = {len(values) for values in scores.values()}
    if len(lengths) != 1 or min(lengths) < 2:
        raise ValueError(
            f"the {len(scores)} candidates have {sorted(lengths)} fold scores; give at least one candidate, and each "
            "the same two or more folds"
        )
    best = max(scores.values(), key=lambda values: float(np.mean(values)))
    least = float(np.mean(best)) - float(np.std(best, ddof=1)) / np.sqrt(len(best))
    return next(name for name, values in scores.items() if float(np.mean(values)) >= least)
