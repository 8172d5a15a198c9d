"""Task heads: a fused vector in, one task's outputs, loss and decoding out."""

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from multimodal.decoding import Decoding, Destandardize, Sigmoid, Softmax

Sees = Literal["fused", "mean_tokens", "tokens"]


@dataclass(frozen=True)
class HeadPlace:
    """Place of a head in its model."""

    dim: int
    """Of the fused vector."""
    in_dims: Mapping[str, int]
    """Dimension of the tokens of *each* input."""
    inputs: tuple[str, ...]
    """Inputs that the task may use."""
    encoder_of: Mapping[str, str]
    """Input -> the first input with the same encoder."""
    is_separated: bool
    """Whether the fused vector is the inputs side by side."""


class Head(nn.Module, ABC):
    """One task. Parameters that only the loss uses live here too and are not exported.

    Legend: b records, f the fused dimension, c outputs; l tokens and d dimension of one input.
    """

    num_outputs: int
    chance_loss: float
    """Loss of a constant predictor; the trainer divides by it, so that unit weights are a fair default."""
    sees: Sees = "fused"
    """Argument of ``forward``. "fused": the fused vector ``[b f]``; "mean_tokens": the mean tokens of all inputs side
    by side, as the encoders give them; "tokens": the tokens ``[b l d]`` of the inputs that the task uses, by name, and
    their masks ``[b l]``, all False where a record has no such input."""
    prior: Float[Tensor, " c"]
    """Outputs of a head that knows no more than how often each answer occurs."""

    @classmethod
    def build(cls, place: HeadPlace, **arguments: Any) -> "Head":
        """A head from the JSON arguments that its task type gave; one that sees tokens gets their dimensions."""
        if cls.sees == "tokens":
            return cls({name: place.in_dims[name] for name in place.inputs}, **arguments)
        return cls(place.dim, **arguments)

    @abstractmethod
    def forward(self, *seen: Any) -> Float[Tensor, "b ..."]:
        """Raw outputs, as ONNX emits them, in the axes of the decoding."""

    @abstractmethod
    def loss(self, outputs: Float[Tensor, "b ..."], target: Tensor) -> Float[Tensor, " b"]:
        """Loss of each record, not reduced; finite where the target is a placeholder."""

    @abstractmethod
    def decoding(self) -> Decoding:
        """Turns the outputs into predictions, without torch."""

    @property
    def loss_offsets(self) -> Float[Tensor, " c"] | None:
        """Addend of the outputs in the loss alone, so that predictions go without it; None: nothing."""
        return None

    def combine(self, outputs: Float[Tensor, "m b c"], weights: Float[Tensor, "m b"]) -> Float[Tensor, "b c"]:
        """Adds what m heads of this task say, over different inputs, as evidence that moves the prior."""
        return self.prior + ((outputs - self.prior) * weights[:, :, None]).sum(dim=0)


class HeadOver(Head):
    """A head whose outputs mean what those of another one do: it says of them what that one says."""

    @property
    @abstractmethod
    def one(self) -> Head:
        """That head."""

    @property
    def loss_offsets(self) -> Float[Tensor, " c"] | None:
        """Offsets of that head."""
        return self.one.loss_offsets

    def loss(self, outputs: Float[Tensor, "b ..."], target: Tensor) -> Float[Tensor, " b"]:
        """Loss of that head."""
        return self.one.loss(outputs, target)

    def decoding(self) -> Decoding:
        """Decoding of that head."""
        return self.one.decoding()

    def combine(self, outputs: Float[Tensor, "m b c"], weights: Float[Tensor, "m b"]) -> Float[Tensor, "b c"]:
        """Combines as that head does."""
        return self.one.combine(outputs, weights)


def head_class(path: str) -> type[Head]:
    """The class that a task type names as ``module:class``."""
    module, _, name = path.partition(":")
    found: type[Head] = getattr(importlib.import_module(module), name)
    return found


class _LabelHead(Head):
    """What heads over named labels share: a linear layer, smoothing and one weight per label."""

    class_weights: Tensor

    def __init__(
        self,
        in_dim: int,
        labels: Sequence[str],
        *,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        frequencies: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.labels = tuple(labels)
        self.num_outputs = len(self.labels)
        self.label_smoothing = label_smoothing
        self.linear = nn.Linear(in_dim, self.num_outputs)
        for name, values in (("class_weights", class_weights), ("frequencies", frequencies)):
            if values is not None and len(values) != self.num_outputs:
                raise ValueError(f"there are {len(values)} {name} for {len(labels)} labels; give one per label")
        weights = torch.ones(self.num_outputs) if class_weights is None else torch.tensor(class_weights).float()
        self.register_buffer("class_weights", weights, persistent=False)
        shares = torch.full_like(weights, 0.5) if frequencies is None else torch.tensor(frequencies).float()
        self.register_buffer("prior", self._prior(shares), persistent=False)

    @abstractmethod
    def _prior(self, frequencies: Float[Tensor, " c"]) -> Float[Tensor, " c"]:
        """Outputs of a constant predictor."""

    def forward(self, fused: Float[Tensor, "b f"]) -> Float[Tensor, "b c"]:
        """Logits."""
        return self.linear(fused)


class ClassificationHead(_LabelHead):
    """Exactly one of ``labels``: a linear layer and the cross-entropy.

    Args:
        in_dim: dimension of the fused vector.
        labels: class names; a target is an index into them.
        label_smoothing: share of the target spread over all classes, in [0, 1).
        class_weights: one factor per class on its records' loss; None weighs all alike.
        frequencies: share of training records of each class; None takes them as alike.
        logit_adjustment: the loss adds the logarithm of the frequencies to the logits (Menon et al., 2021,
            https://arxiv.org/abs/2007.07314, equation 10), so that the head answers, and counts its ``prior``, as if
            all classes were equally frequent. Not where production has the frequencies of the training records.

    Raises:
        ValueError: if there is not one weight per class, or the adjustment has no frequencies, or has weights, too.
    """

    _offsets: Tensor | None

    def __init__(
        self,
        in_dim: int,
        labels: Sequence[str],
        *,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        frequencies: Sequence[float] | None = None,
        logit_adjustment: bool = False,
    ) -> None:
        if logit_adjustment and (frequencies is None or class_weights is not None):
            raise ValueError("logit_adjustment needs the frequencies, and does what class_weights do: leave these out")
        shown = None if logit_adjustment else frequencies
        super().__init__(
            in_dim, labels, label_smoothing=label_smoothing, class_weights=class_weights, frequencies=shown
        )
        self.chance_loss = math.log(max(2, self.num_outputs))
        offsets = torch.tensor(frequencies).float().log() if logit_adjustment else None
        self.register_buffer("_offsets", offsets, persistent=False)

    @property
    def loss_offsets(self) -> Float[Tensor, " c"] | None:
        """The logarithm of the frequencies, where logits are adjusted."""
        return self._offsets

    def loss(self, outputs: Float[Tensor, "b c"], target: Tensor) -> Float[Tensor, " b"]:
        """Cross-entropy with the target's class weight; ``target`` is int64 [b]."""
        logits = outputs.float() if self.loss_offsets is None else outputs.float() + self.loss_offsets
        losses = F.cross_entropy(logits, target, reduction="none", label_smoothing=self.label_smoothing)
        return losses * self.class_weights[target]

    def _prior(self, frequencies: Float[Tensor, " c"]) -> Float[Tensor, " c"]:
        return (frequencies * self.class_weights).log()  # the weights change how often each class counts

    def decoding(self) -> Softmax:
        """The most probable class."""
        return Softmax(self.labels)


class MultilabelHead(_LabelHead):
    """Any number of ``labels``: a linear layer and a binary cross-entropy per label.

    Args:
        in_dim: dimension of the fused vector.
        labels: label names; a target is a row of zeros and ones over them.
        label_smoothing: share of each zero or one moved towards one half, in [0, 1).
        class_weights: one factor per label; None weighs all alike.
        frequencies: share of training records that have each label; None takes it as a half.
        threshold: probability at which a label is given.

    Raises:
        ValueError: if there is not one weight per label.
    """

    def __init__(
        self,
        in_dim: int,
        labels: Sequence[str],
        *,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        frequencies: Sequence[float] | None = None,
        threshold: float = 0.5,
    ) -> None:
        super().__init__(
            in_dim, labels, label_smoothing=label_smoothing, class_weights=class_weights, frequencies=frequencies
        )
        self.chance_loss = math.log(2)
        self.threshold = threshold

    def loss(self, outputs: Float[Tensor, "b c"], target: Tensor) -> Float[Tensor, " b"]:
        """Mean of the labels' binary cross-entropies; ``target`` is float [b c]."""
        smooth = target * (1.0 - self.label_smoothing) + 0.5 * self.label_smoothing
        losses = F.binary_cross_entropy_with_logits(outputs.float(), smooth, reduction="none")
        return (losses * self.class_weights).mean(dim=1)

    def _prior(self, frequencies: Float[Tensor, " c"]) -> Float[Tensor, " c"]:
        return frequencies.clamp(1e-6, 1 - 1e-6).logit()

    def decoding(self) -> Sigmoid:
        """Every label that reaches its threshold."""
        return Sigmoid(self.labels, (self.threshold,) * self.num_outputs)


class RegressionHead(Head):
    """A number: a linear layer and the squared error of the standardised target.

    Args:
        in_dim: dimension of the fused vector.
        mean, std: of the training targets, in the data's unit.
        unit: the data's unit, shown beside predictions.
    """

    def __init__(self, in_dim: int, *, mean: float = 0.0, std: float = 1.0, unit: str = "") -> None:
        super().__init__()
        self.num_outputs = 1
        self.chance_loss = 1.0  # variance of a standardised target
        self.mean, self.std, self.unit = mean, std, unit
        self.linear = nn.Linear(in_dim, 1)
        self.register_buffer("prior", torch.zeros(1), persistent=False)

    def forward(self, fused: Float[Tensor, "b f"]) -> Float[Tensor, "b 1"]:
        """Standardised values."""
        return self.linear(fused)

    def loss(self, outputs: Float[Tensor, "b 1"], target: Tensor) -> Float[Tensor, " b"]:
        """Squared error; ``target`` is float [b], in the data's unit."""
        standardised = (target.double() - self.mean) / self.std  # float32 cannot tell 1.7e9 from its neighbours
        return (outputs.float()[:, 0] - standardised.float()).square()

    def decoding(self) -> Destandardize:
        """The value in the data's unit."""
        return Destandardize(self.mean, self.std, self.unit)

    def combine(self, outputs: Float[Tensor, "m b 1"], weights: Float[Tensor, "m b"]) -> Float[Tensor, "b 1"]:
        """The weighted mean; zero, the training mean, where all weights are."""
        shares = weights / weights.sum(dim=0).clamp_min(1e-6)
        return (outputs * shares[:, :, None]).sum(dim=0)
