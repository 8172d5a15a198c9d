"""From a head's raw outputs to answers: one code for training, evaluation and production. Never imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

EMBEDDING = "embedding"
"""Name of the output that holds the fused vector at length 1."""


@dataclass(frozen=True)
class Prediction:
    """The answer of one task for one record; what does not apply to the task's type is None or empty."""

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


class Decoding(Protocol):
    """Turns a head's outputs ``[b c]`` into what the task means; JSON in and out."""

    kind: ClassVar[str]

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs ``[b c]`` as metrics read them: probabilities, or values in the data's unit."""
        ...

    def predictions(self, outputs: np.ndarray) -> list[Prediction]:
        """One answer a record."""
        ...

    def to_config(self) -> dict[str, Any]:
        """JSON that ``decoding_from_config`` takes."""
        ...


@dataclass(frozen=True)
class Softmax:
    """Exactly one of several classes.

    >>> Softmax(("apple", "pear")).predictions(np.array([[2.0, 0.0]]))[0].label
    'apple'
    """

    labels: tuple[str, ...]
    temperature: float = 1.0
    """Divides the logits; above 1 makes the answers less sure."""
    min_probability: float = 0.0
    """Of the most probable class; a record with less gets no label."""
    kind: ClassVar[str] = "softmax"

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """Probabilities ``[b c]`` that sum to one."""
        scaled = outputs.astype(np.float64) / self.temperature
        exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def predictions(self, outputs: np.ndarray) -> list[Prediction]:
        """The most probable class of each record, where it is probable enough."""
        answers = []
        for row in self.scores(outputs):
            best = int(row.argmax())
            label = self.labels[best] if row[best] >= self.min_probability else None
            probabilities = dict(zip(self.labels, row.tolist(), strict=True))
            answers.append(Prediction(label, probability=float(row[best]), probabilities=probabilities))
        return answers

    def to_config(self) -> dict[str, Any]:
        """JSON that ``decoding_from_config`` takes."""
        return {
            "kind": self.kind,
            "labels": list(self.labels),
            "temperature": self.temperature,
            "min_probability": self.min_probability,
        }


@dataclass(frozen=True)
class Sigmoid:
    """Any number of labels, each on its own.

    >>> Sigmoid(("new", "sale"), (0.5, 0.5)).predictions(np.array([[3.0, -3.0]]))[0].labels
    ('new',)
    """

    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    """Probability at which each label is given."""
    temperature: float = 1.0
    """Divides the logits; above 1 makes the answers less sure."""
    kind: ClassVar[str] = "sigmoid"

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """Probabilities ``[b c]``."""
        return 0.5 * (1.0 + np.tanh(0.5 * outputs.astype(np.float64) / self.temperature))  # does not overflow

    def predictions(self, outputs: np.ndarray) -> list[Prediction]:
        """The labels of each record that reach their thresholds."""
        answers = []
        for row in self.scores(outputs):
            given = np.flatnonzero(row >= np.asarray(self.thresholds))
            answers.append(
                Prediction(
                    labels=tuple(self.labels[index] for index in given),
                    probability=float(row[given].min()) if given.size else None,
                    probabilities=dict(zip(self.labels, row.tolist(), strict=True)),
                )
            )
        return answers

    def to_config(self) -> dict[str, Any]:
        """JSON that ``decoding_from_config`` takes."""
        return {
            "kind": self.kind,
            "labels": list(self.labels),
            "thresholds": list(self.thresholds),
            "temperature": self.temperature,
        }


@dataclass(frozen=True)
class Destandardize:
    """A number, from its standardised value.

    >>> Destandardize(mean=10.0, std=2.0).predictions(np.array([[1.5]]))[0].value
    13.0
    """

    mean: float
    """Of the training targets, in the data's unit."""
    std: float
    """Of the training targets, in the data's unit."""
    unit: str = ""
    kind: ClassVar[str] = "destandardize"

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """Values ``[b 1]`` in the data's unit."""
        return outputs.astype(np.float64) * self.std + self.mean

    def predictions(self, outputs: np.ndarray) -> list[Prediction]:
        """The value of each record."""
        return [Prediction(value=float(row[0])) for row in self.scores(outputs)]

    def to_config(self) -> dict[str, Any]:
        """JSON that ``decoding_from_config`` takes."""
        return {"kind": self.kind, "mean": self.mean, "std": self.std, "unit": self.unit}


@dataclass(frozen=True)
class PairedEmbeddings:
    """Two inputs' embeddings of length 1, side by side.

    >>> PairedEmbeddings(("image", "text")).split(np.array([[1.0, 0.0, 0.0, 1.0]]))
    (array([[1., 0.]]), array([[0., 1.]]))
    """

    inputs: tuple[str, str]
    kind: ClassVar[str] = "paired_embeddings"

    def split(self, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each input's embeddings ``[b d]``."""
        first, second = np.split(outputs, 2, axis=1)
        return first, second

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """The outputs ``[b 2d]`` as they are."""
        return outputs

    def predictions(self, outputs: np.ndarray) -> list[Prediction]:
        """Both embeddings of each record, side by side."""
        return [Prediction(embedding=row) for row in outputs]

    def to_config(self) -> dict[str, Any]:
        """JSON that ``decoding_from_config`` takes."""
        return {"kind": self.kind, "inputs": list(self.inputs)}


@dataclass(frozen=True)
class Embedding:
    """A vector of length 1.

    >>> Embedding().predictions(np.array([[0.6, 0.8]]))[0].embedding
    array([0.6, 0.8])
    """

    kind: ClassVar[str] = "embedding"

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """The outputs ``[b c]`` as they are."""
        return outputs

    def predictions(self, outputs: np.ndarray) -> list[Prediction]:
        """The embedding of each record."""
        return [Prediction(embedding=row) for row in outputs]

    def to_config(self) -> dict[str, Any]:
        """JSON that ``decoding_from_config`` takes."""
        return {"kind": self.kind}


def decoding_from_config(config: Mapping[str, Any]) -> Decoding:
    """Rebuilds a decoding from its JSON.

    Raises:
        LookupError: if its kind is unknown.
    """
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    kind = fields.pop("kind", None)
    decodings: dict[str, Any] = {
        cls.kind: cls for cls in (Softmax, Sigmoid, Destandardize, PairedEmbeddings, Embedding)
    }
    if kind not in decodings:
        raise LookupError(f"there is no decoding {kind!r}; there are {', '.join(decodings)}")
    return decodings[kind](**fields)
