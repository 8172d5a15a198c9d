"""Number that is explained for each task. Never imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from multimodal.decoding import Decoding, Destandardize, Sigmoid, Softmax

_LEAST = 1e-16  # of a probability: log-odds stay within 37


@dataclass(frozen=True)
class ExplanationTarget:
    """Explained number of one task, as a function of the task's raw outputs."""

    task: str
    decoding: Decoding
    column: int = 0
    """Of the scores."""
    label: str | None = None
    """The class or label; None for a number."""

    @property
    def unit(self) -> str:
        """Of ``amount``."""
        return self.decoding.unit if isinstance(self.decoding, Destandardize) else "probability"

    @property
    def evidence_unit(self) -> str:
        """Of ``evidence``."""
        return self.unit if self.label is None else "log-odds"

    def amount(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The label's probability, or the value in the data's unit, [n]."""
        return self.decoding.scores(outputs[self.task])[:, self.column]

    def evidence(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The label's log-odds, or the value, [n]: a probability near 1 hardly moves, its log-odds do."""
        scores = self.decoding.scores(outputs[self.task])
        if self.label is None:
            return scores[:, self.column]
        own = scores[:, self.column]
        others = np.delete(scores, self.column, axis=1).sum(axis=1) if isinstance(self.decoding, Softmax) else 1 - own
        return np.log(np.maximum(own, _LEAST)) - np.log(np.maximum(others, _LEAST))


def explanation_target(task: str, decoding: Decoding, outputs: Mapping[str, np.ndarray]) -> ExplanationTarget | None:
    """The most probable label of the first record, or its number; None where a task has neither.

    >>> explanation_target("fruit", Softmax(("apple", "pear")), {"fruit": np.array([[0.0, 2.0]])}).label
    'pear'
    """
    if isinstance(decoding, Destandardize):
        return ExplanationTarget(task, decoding)
    if not isinstance(decoding, Softmax | Sigmoid):
        return None
    best = int(decoding.scores(outputs[task])[0].argmax())
    return ExplanationTarget(task, decoding, best, decoding.labels[best])
