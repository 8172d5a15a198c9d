"""The contract of decodings: a head's raw outputs in, predictions out, and their form in tables and responses."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from multimodal.metrics import Metrics

EMBEDDING = "embedding"
"""Name of the output that holds the fused vector at length 1."""


def cell_text(cell: str | float | None) -> str:
    """A cell of a table as text; numbers with all their digits.

    >>> cell_text(0.1), cell_text(None)
    ('0.1', '')
    """
    return "" if cell is None else cell if isinstance(cell, str) else repr(cell)


@dataclass(frozen=True)
class Prediction:
    """Prediction of one task for one record; fields that do not apply to the task's type are None or empty.

    A task type with more to say subclasses it.
    """

    label: str | None = None
    """Classification: the most probable class; None where its probability is below the task's smallest."""
    labels: tuple[str, ...] = ()
    """Multilabel: every label at or above its threshold."""
    probability: float | None = None
    """Of the most probable class; multilabel: the smallest among ``labels`` (None where there is none)."""
    probabilities: dict[str, float] = field(default_factory=dict)
    """Of every class or label."""
    value: float | None = None
    """Regression: in the unit of the training data."""
    embedding: np.ndarray | None = None
    """Embedding: of length 1."""
    missing: tuple[str, ...] = ()
    """Inputs that the record did not have."""


class AgreementLimits(Protocol):
    """Differences between two computations of the same outputs that leave predictions what they are."""

    @property
    def value(self) -> float:
        """Largest difference of a standardised value."""
        ...

    @property
    def cosine(self) -> float:
        """Smallest cosine of two embeddings."""
        ...


class Decoding(ABC):
    """Meaning of raw outputs, in NumPy. Subclasses are frozen dataclasses whose fields are JSON, tuples for lists.

    Legend: b records, c outputs, t positions, h w cells of a grid.
    """

    kind: ClassVar[str]
    """Name in bundles."""
    axes: ClassVar[tuple[str, ...]] = ("b", "c")
    """Of the outputs. Beyond a record's own size along an axis that varies, outputs are ``PADDING``."""
    columns: ClassVar[Mapping[str, str]] = {}
    """Suffix of the task's name -> Arrow type ("string" or "double") of each column of a table of predictions."""
    schema: ClassVar[Mapping[str, Any]] = {}
    """OpenAPI properties of ``response``."""
    headline: ClassVar[str]
    """The metric that stands for the task."""
    is_vector: ClassVar[bool] = False
    """Whether predictions are embeddings, which a gallery enrols."""
    is_served: ClassVar[bool] = True
    """Whether bundles have it; a task that serves training alone is left out of them."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Inputs without which nothing is predicted."""
        return ()

    # --- meaning

    @abstractmethod
    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs as metrics read them, of the same shape: probabilities, or values in the data's unit."""

    @abstractmethod
    def predictions(self, outputs: np.ndarray) -> Sequence[Prediction]:
        """One prediction per record."""

    @abstractmethod
    def metrics(self, scores: np.ndarray, targets: np.ndarray, unknown: Sequence[str]) -> Metrics:
        """Every score of the task with its interval, as ``multimodal.metrics.task_metrics`` describes them."""

    def details(self, scores: np.ndarray, targets: np.ndarray, unknown: Sequence[str]) -> dict[str, Any]:
        """Tables behind the scores, JSON; arguments as of ``metrics``."""
        return {}

    def rules(self) -> Iterator[str]:
        """Phrases that tell when a label is given; none where it is the most probable."""
        yield from ()

    def agree(self, actual: np.ndarray, expected: np.ndarray, limits: AgreementLimits) -> np.ndarray:
        """Mask of the records for which two computations of the outputs predict the same, bool [b]."""
        same: np.ndarray = actual.argmax(axis=-1) == expected.argmax(axis=-1)
        return np.asarray(same.reshape(len(same), -1).all(axis=1))

    # --- JSON

    def to_config(self) -> dict[str, Any]:
        """JSON that ``from_config`` takes."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}  # type: ignore[arg-type]
        return {"kind": self.kind} | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Rebuilds a decoding from its JSON."""
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
        kind = values.pop("kind", None)
        if kind != cls.kind:
            raise ValueError(f"the decoding is of kind {kind!r}, and {cls.kind!r} is needed; export the run again")
        return cls(**values)

    # --- what people, tables and requests are given

    def cells(self, prediction: Any) -> tuple[str | float | None, ...]:
        """Cells of ``columns``."""
        return ()

    def response(self, prediction: Any) -> dict[str, Any]:
        """JSON of an HTTP response, without the inputs that were missing: what ``schema`` describes."""
        return {key: getattr(prediction, key) for key in self.schema}

    def shown(self, prediction: Any) -> tuple[str, str]:
        """Prediction and probability as the command line shows them."""
        return ", ".join(map(cell_text, self.cells(prediction))), ""

    # --- explanations

    @property
    def unit(self) -> str:
        """Of the score that is explained."""
        return ""

    def explained(self, scores: np.ndarray) -> tuple[int, str | None] | None:
        """Column of one record's scores [c] that is explained, and its label; None where nothing is."""
        return None

    def evidence(self, scores: np.ndarray, column: int) -> np.ndarray:
        """Scores of a column [b] on a scale on which contributions add up."""
        return scores[:, column]


LEAST = 1e-16  # of a probability: log-odds stay within 37


class ProbabilityDecoding(Decoding):
    """Probabilities of named labels, whose temperature can be fitted."""

    labels: tuple[str, ...]
    temperature: float

    @property
    def unit(self) -> str:
        """Of the score that is explained."""
        return "probability"

    def explained(self, scores: np.ndarray) -> tuple[int, str | None] | None:
        """The most probable label."""
        best = int(scores.argmax())
        return best, self.labels[best]

    def others(self, scores: np.ndarray, column: int) -> np.ndarray:
        """Probability that the label of a column is wrong, [b]."""
        return 1 - scores[:, column]

    def evidence(self, scores: np.ndarray, column: int) -> np.ndarray:
        """Log-odds: a probability near 1 hardly moves, its log-odds do."""
        others = self.others(scores, column)
        return np.log(np.maximum(scores[:, column], LEAST)) - np.log(np.maximum(others, LEAST))

    def with_temperature(self, temperature: float) -> Self:
        """The decoding with another temperature and the same labels given."""
        return replace(self, temperature=temperature)  # type: ignore[type-var]

    @abstractmethod
    def known(self, targets: np.ndarray) -> np.ndarray:
        """Records whose label training had, bool [b]."""

    @abstractmethod
    def truth(self, targets: np.ndarray) -> np.ndarray:
        """Mask of the labels that are right, bool [b c]."""

    @abstractmethod
    def statements(self, scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Probabilities that are stated [k], whether each came true [k], and probabilities of what did."""

    @property
    @abstractmethod
    def statements_per_record(self) -> int:
        """Number of probabilities that the log loss is the mean over."""


PROBABILITY_COLUMNS = {"": "string", "_probability": "double"}
PROBABILITY_SCHEMA = {
    "probability": {"type": ["number", "null"]},
    "probabilities": {"type": "object", "additionalProperties": {"type": "number"}},
}
