"""The probability from which on a label is given, chosen on records whose labels are known. Never imports torch."""

import numpy as np


def best_threshold(
    probabilities: np.ndarray, truth: np.ndarray, costs: tuple[float, float] | None = None
) -> float | None:
    """Threshold with the largest F1, or the smallest cost; halfway between the probabilities on both sides of it.

    Of several that are equally good, the one next to 0.5. None where the records do not define one: there is none, or,
    without costs, none that has the label.

    Args:
        probabilities: of the label, [n].
        truth: whether each record has it, bool [n].
        costs: of a label that is given to a record without it, and of one that is not given to a record with it, in
            any unit.

    >>> best_threshold(np.array([0.1, 0.2, 0.4, 0.9]), np.array([False, False, True, True]))
    0.30000000000000004
    >>> best_threshold(np.array([0.1, 0.4, 0.5]), np.array([False, False, True]), (1.0, 9.0))
    0.45
    """
    positives = int(truth.sum())
    if not len(truth) or (costs is None and not positives):
        return None
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order]
    hits = np.concatenate([[0], np.cumsum(truth[order])])  # of the k most probable, [n + 1]
    given = np.arange(len(hits))
    if costs is None:
        quality = 2 * hits / (given + positives)
    else:
        quality = -(costs[0] * (given - hits) + costs[1] * (positives - hits))
    borders = np.concatenate([[1.0], ranked, [0.0]])
    thresholds = (borders[:-1] + borders[1:]) / 2  # given k, [n + 1]
    possible = borders[:-1] > borders[1:]
    best = possible & (quality == quality[possible].max())
    return float(thresholds[best][np.abs(thresholds[best] - 0.5).argmin()])
