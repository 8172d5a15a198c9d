"""How far a task's probabilities can be believed, and the temperature that makes them so. Never imports torch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from multimodal.decoding import Decoding, Sigmoid, Softmax

BINS = 15
"""Of equal width, as Guo et al. have them."""

_COLDEST, _HOTTEST, _HALVINGS = 0.01, 100.0, 60
_LEAST_PROBABILITY = 1e-12  # of an answer that turned out right: its logarithm is finite


@dataclass(frozen=True)
class Reliability:
    """Stated probabilities against what came true, by bins of the probability."""

    counts: np.ndarray
    """Statements in each of ``BINS`` bins, int."""
    probability: np.ndarray
    """Mean of what was stated, 0 where there is none."""
    frequency: np.ndarray
    """Share that came true, 0 where there is none."""

    @property
    def error(self) -> float:
        """Expected calibration error: the mean gap between both, weighted by how many statements a bin has.

        Naeini et al. (2015), https://doi.org/10.1609/aaai.v29i1.9602.
        """
        total = max(1, int(self.counts.sum()))
        return float((self.counts * np.abs(self.probability - self.frequency)).sum() / total)


def reliability(stated: np.ndarray, true: np.ndarray) -> Reliability:
    """Sorts statements into bins of equal width.

    Args:
        stated: probabilities [k].
        true: whether each came true, bool [k].

    >>> found = reliability(np.array([0.95, 0.95, 0.95, 0.55]), np.array([True, True, False, True]))
    >>> round(found.error, 3)  # (3 * |.95 - 2/3| + |.55 - 1|) / 4
    0.325
    """
    places = np.clip(np.ceil(stated * BINS).astype(np.int64) - 1, 0, BINS - 1)  # a bin holds its upper end
    counts = np.bincount(places, minlength=BINS)
    sums = [np.bincount(places, weights=values, minlength=BINS) for values in (stated, true.astype(np.float64))]
    probability, frequency = (values / np.maximum(counts, 1) for values in sums)
    return Reliability(counts, probability, frequency)


def measure_calibration(decoding: Decoding, outputs: np.ndarray, targets: np.ndarray) -> dict[str, Any] | None:
    """Calibration without and with the decoding's temperature, JSON; None where a task has no probabilities.

    Classification states one probability a record, that of its answer; multilabel one for each label. A label that
    training lacked cannot come true, and has no log loss.

    Args:
        outputs: raw, [n c].
        targets: as ``task_metrics`` takes them.
    """
    if not isinstance(decoding, Softmax | Sigmoid):
        return None
    return {
        "temperature": decoding.temperature,
        "records": len(targets),
        "before": _measured(replace(decoding, temperature=1.0), outputs, targets),
        "after": _measured(decoding, outputs, targets),
    }


def _measured(decoding: Softmax | Sigmoid, outputs: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    scores, known = decoding.scores(outputs), _known(decoding, targets)
    if isinstance(decoding, Softmax):
        found = reliability(scores.max(axis=1, initial=0.0), scores.argmax(axis=1) == targets)
        right = scores[known, targets[known].astype(np.int64)]
    else:
        truth = targets[:, : scores.shape[1]] > 0.5
        found = reliability(scores.ravel(), truth.ravel())
        right = np.where(truth, scores, 1.0 - scores)
    return {
        "error": found.error if len(targets) else None,
        "log_loss": float(-np.log(np.maximum(right, _LEAST_PROBABILITY)).mean()) if right.size else None,
        "bins": {
            "counts": found.counts.tolist(),
            "probability": found.probability.tolist(),
            "frequency": found.frequency.tolist(),
        },
    }


def with_temperature(decoding: Decoding, temperature: float) -> Decoding:
    """The decoding with another temperature and the same answers; one without probabilities as it is.

    Thresholds move with the probabilities: each stays at the same logit.

    >>> with_temperature(Sigmoid(("new",), (0.8,)), 2.0).thresholds  # 1 / (1 + 4 ** -0.5)
    (0.6666666666666666,)
    """
    if isinstance(decoding, Softmax):
        return replace(decoding, temperature=temperature)
    if not isinstance(decoding, Sigmoid):
        return decoding
    ratio = decoding.temperature / temperature
    moved = tuple(1.0 / (1.0 + ((1.0 - share) / share) ** ratio) for share in decoding.thresholds)
    return replace(decoding, thresholds=moved, temperature=temperature)


def fit_temperature(
    decoding: Decoding, outputs: np.ndarray, targets: np.ndarray, offsets: np.ndarray | None = None
) -> float:
    """The temperature with the smallest log loss on records that were not trained on; 1 where there is nothing to fit.

    Guo et al. (2017), https://arxiv.org/abs/1706.04599. The loss is convex in the inverse temperature, so that
    halving an interval by the sign of the slope finds the one minimum. The inverse is drawn to 1 as strongly as one
    record could, for tables on which no answer is wrong: their loss has no minimum.

    Args:
        outputs, targets: as ``measure_calibration`` takes them.
        offsets: of a classification that answers as if all classes were alike frequent: the logarithm of how frequent
            they are in these records, [c], added to the cooled logits, so that both tell of one world; None: nothing.
    """
    if not isinstance(decoding, Softmax | Sigmoid):
        return 1.0
    known = _known(decoding, targets)
    if not known.any():
        return 1.0
    slope = _slope(decoding, outputs[known].astype(np.float64), targets[known], offsets)
    low, high = np.log(1 / _HOTTEST), np.log(1 / _COLDEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        inverse = float(np.exp(middle))
        rising = slope(inverse) + 2 * (inverse - 1) / int(known.sum()) > 0
        low, high = (low, middle) if rising else (middle, high)
    return float(np.exp(-(low + high) / 2))


def _slope(
    decoding: Softmax | Sigmoid, logits: np.ndarray, targets: np.ndarray, offsets: np.ndarray | None
) -> Callable[[float], float]:
    """Inverse temperature -> derivative of the mean log loss: expected minus observed logit."""
    fixed = np.zeros(logits.shape[1]) if offsets is None else offsets
    if isinstance(decoding, Softmax):
        truth: np.ndarray = targets[:, None] == np.arange(logits.shape[1])
        scale = float(logits.shape[1])  # one answer a record
    else:
        truth = targets[:, : logits.shape[1]] > 0.5
        scale = 1.0

    def slope(inverse: float) -> float:
        expected = replace(decoding, temperature=1 / inverse).scores(logits + fixed / inverse)
        return scale * float(((expected - truth) * logits).mean())

    return slope


def _known(decoding: Softmax | Sigmoid, targets: np.ndarray) -> np.ndarray:
    """Records whose answer training had, bool [n]."""
    if isinstance(decoding, Softmax):
        return targets < len(decoding.labels)
    return np.ones(len(targets), dtype=bool)
