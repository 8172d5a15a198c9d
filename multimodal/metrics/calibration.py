"""Calibration of a task's probabilities, and the temperature that makes them credible. Never imports torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from multimodal.task_types import Decoding

BINS = 15
"""Of equal width, as Guo et al. have them."""

_COLDEST, _HOTTEST, _HALVINGS = 0.01, 100.0, 60
_LEAST_PROBABILITY = 1e-12  # of an answer that turned out right: its logarithm is finite


@runtime_checkable
class Calibrated(Protocol):
    """A decoding of probabilities; ``multimodal.task_types.ProbabilityDecoding`` says what each method gives."""

    @property
    def temperature(self) -> float: ...

    def scores(self, outputs: np.ndarray) -> np.ndarray: ...

    def with_temperature(self, temperature: float) -> Self: ...

    def known(self, targets: np.ndarray) -> np.ndarray: ...

    def truth(self, targets: np.ndarray) -> np.ndarray: ...

    def statements(self, scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...

    @property
    def statements_per_record(self) -> int: ...


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


def measure_calibration(decoding: "Decoding", outputs: np.ndarray, targets: np.ndarray) -> dict[str, Any] | None:
    """Calibration without and with the decoding's temperature, JSON; None where a task has no probabilities.

    Classification states one probability a record, that of its answer; multilabel one for each label. A label that
    training did not have cannot come true, and has no log loss.

    Args:
        outputs: raw, [n c].
        targets: as ``task_metrics`` takes them.
    """
    if not isinstance(decoding, Calibrated):
        return None
    return {
        "temperature": decoding.temperature,
        "records": len(targets),
        "before": _measured(decoding, outputs.astype(np.float64) * decoding.temperature, targets),
        "after": _measured(decoding, outputs, targets),
    }


def _measured(decoding: Calibrated, outputs: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    stated, true, right = decoding.statements(decoding.scores(outputs), targets)
    found = reliability(stated, true)
    return {
        "error": found.error if len(targets) else None,
        "log_loss": float(-np.log(np.maximum(right, _LEAST_PROBABILITY)).mean()) if right.size else None,
        "bins": {
            "counts": found.counts.tolist(),
            "probability": found.probability.tolist(),
            "frequency": found.frequency.tolist(),
        },
    }


def with_temperature(decoding: "Decoding", temperature: float) -> "Decoding":
    """The decoding with another temperature and the same predictions; one without probabilities unchanged."""
    return decoding.with_temperature(temperature) if isinstance(decoding, Calibrated) else decoding


def fit_temperature(
    decoding: "Decoding", outputs: np.ndarray, targets: np.ndarray, offsets: np.ndarray | None = None
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
    if not isinstance(decoding, Calibrated):
        return 1.0
    known = decoding.known(targets)
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
    decoding: Calibrated, logits: np.ndarray, targets: np.ndarray, offsets: np.ndarray | None
) -> Callable[[float], float]:
    """Inverse temperature -> derivative of the mean log loss: expected minus observed logit."""
    fixed = np.zeros(logits.shape[1]) if offsets is None else offsets
    truth, scale = decoding.truth(targets), logits.shape[1] / decoding.statements_per_record
    given = decoding.temperature

    def slope(inverse: float) -> float:
        expected = decoding.scores((logits * inverse + fixed) * given)
        return scale * float(((expected - truth) * logits).mean())

    return slope
