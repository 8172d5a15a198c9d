"""Number that is explained for each task. Never imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from multimodal.decoding import Decoding


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
        return self.decoding.unit

    @property
    def evidence_unit(self) -> str:
        """Of ``evidence``."""
        return self.unit if self.label is None else "log-odds"

    def amount(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The label's probability, or the value in the data's unit, [n]."""
        return self.decoding.scores(outputs[self.task])[:, self.column]

    def evidence(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The label's log-odds, or the value, [n]."""
        return self.decoding.evidence(self.decoding.scores(outputs[self.task]), self.column)


def explanation_target(task: str, decoding: Decoding, outputs: Mapping[str, np.ndarray]) -> ExplanationTarget | None:
    """The most probable label of the first record, or its number; None where a task has neither.

    >>> from multimodal.decoding import Softmax
    >>> explanation_target("fruit", Softmax(("apple", "pear")), {"fruit": np.array([[0.0, 2.0]])}).label
    'pear'
    """
    found = decoding.explained(decoding.scores(outputs[task][:1])[0])
    return None if found is None else ExplanationTarget(task, decoding, *found)
