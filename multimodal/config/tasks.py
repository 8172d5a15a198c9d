"""The job's tasks."""

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from encoders.preprocessing.base import nearest_hint
from multimodal.config.frozen_rules import COMPUTED_HEADS
from multimodal.config.section import Section, registered
from multimodal.task_types import TASK_TYPES, TaskType, task_type


class ZeroShot(Section):
    """For `head: zero_shot`: an input whose encoder is aligned with texts is compared with what the classes are called.

    The encoder is the image half of a CLIP or SigLIP (options: {tower: image, pooling: projected}), whose text half
    reads the names; or that of `source`, an earlier run with a contrastive task between it and a text.
    """

    input: str | None = None
    """Input that is compared; left out: the task's only one that is no text."""
    prompts: list[str] = Field(default=["a photo of {}"], min_length=1)
    """Texts with {} for the class; their embeddings are averaged."""
    labels: list[str] | None = Field(default=None, min_length=2)
    """Names of the classes, for tables without labels; left out: those of the training table."""
    words: dict[str, str] = Field(default_factory=dict)
    """Class: what the prompts call it; left out: its name, with spaces for - and _."""
    source: str | None = None
    """Folder of an earlier run with a contrastive task, whose text encoder and projections are taken."""
    pull: float = Field(default=0.0, ge=0)
    """Of half the squared distance of the head's weights from where they started, in the loss; 0 lets them go."""

    @field_validator("prompts")
    @classmethod
    def _hold_the_class(cls, value: list[str]) -> list[str]:
        for prompt in value:
            if prompt.count("{}") != 1:
                raise ValueError(
                    f"the prompt {prompt!r} has no single {{}} for the class; write one like 'a photo of {{}}'"
                )
        return value

    @field_validator("labels")
    @classmethod
    def _each_once(cls, value: list[str] | None) -> list[str] | None:
        twice = sorted({label for label in value or () if (value or []).count(label) > 1})
        if twice:
            raise ValueError(f"the labels {twice} are given twice; give each once")
        return value

    @model_validator(mode="after")
    def _words_are_of_classes(self) -> "ZeroShot":
        if self.labels is not None:
            self.check_words(self.labels)
        return self

    def check_words(self, labels: Collection[str]) -> None:
        """Refuses words for what is no class.

        Raises:
            ValueError: names them, and the nearest class.
        """
        for label in self.words:
            if label not in labels:
                raise ValueError(f"words: there is no class {label!r}{nearest_hint(label, labels)}")

    def texts(self, label: str) -> list[str]:
        """Words of the prompts for a class."""
        called = self.words.get(label, label.replace("-", " ").replace("_", " "))
        return [prompt.replace("{}", called) for prompt in self.prompts]


class Costs(Section):
    """Costs of the two kinds of error, in any unit; only their ratio counts."""

    false_positive: float = Field(default=1.0, gt=0)
    """A label, or the positive class, that is given to a record which does not have it."""
    false_negative: float = Field(default=1.0, gt=0)
    """One that is not given to a record which has it."""


class Task(Section):
    """One task: a column of answers and how they are learned, or two inputs that find each other without any."""

    type: Annotated[str, registered(TASK_TYPES)] = "classification"
    """classification, multilabel, regression, embedding or contrastive, or a registered task type of your own.
    embedding: the answer is a vector, near for records of one label and far for others; labels may be new later.
    contrastive: has no column; each of its two inputs learns to find the record's other one among those of the batch,
    of which several processes, and the parts that train.accumulate makes, have one each."""
    column: str | None = None
    """Column of the manifest; left out: the task's name."""
    inputs: list[str] | None = Field(default=None, min_length=1)
    """Inputs that this task may use (contrastive: exactly two); left out: all. The others are hidden from it as if
    they were missing."""
    weight: float = Field(default=1.0, gt=0)
    """Of this task's loss, after each loss is divided by its chance loss."""
    tower: list[Annotated[int, Field(gt=0)]] = Field(default_factory=list)
    """Widths of hidden layers between the fused vector and this task's head, which no other task shares; none: the
    head is a linear layer."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    imbalance: Literal["none", "class_weights", "balanced_sampler", "logit_adjustment"] = "none"
    """What evens out rare classes: weights on the loss, drawing their records more often (one task only), or, for
    classification, a loss that knows how frequent each is, so that answers are as if all were alike frequent."""
    head: Literal["linear", "zero_shot", "softmax", "svm", "class_mean", "knn"] = "linear"
    """Classification: linear is trained by the trainer; zero_shot begins as what the classes are called, in an encoder
    that is aligned with texts. The others are computed at once from frozen encoders (fusion concat without dim):
    softmax is logistic regression with its L2 chosen by cross-validation, svm a calibrated linear support vector
    machine, class_mean the class whose mean has the largest cosine, knn the vote of the training records, each the
    more the larger its cosine."""
    zero_shot: ZeroShot = ZeroShot()
    """head: zero_shot: prompts, names, and where the text encoder is from."""
    threshold: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] = 0.5
    """Multilabel: probability at which a label is given, before temperature. Classification of two classes: that at
    which ``positive`` is given, after temperature; it may be changed in a finished run's config. auto: fitted to the
    validation records, to the largest F1 or the smallest ``costs``."""
    positive: str | None = None
    """Classification of two classes: the one that ``threshold`` and F1 are of; left out: the last in order."""
    costs: Costs | None = None
    """With ``threshold: auto``: what the two kinds of error cost; left out: F1 chooses."""
    min_probability: float = Field(default=0.0, ge=0, lt=1)
    """Classification: below it a record gets no answer; 0 answers all. May be changed in a finished run's config."""
    unit: str = ""
    """Regression: shown beside answers."""
    width: int = Field(default=128, gt=0)
    """Embedding: numbers of the vector."""
    loss: Literal["arcface", "supcon"] = "arcface"
    """Embedding. arcface: a learned centre a label; supcon: labels meet within a batch, which must be large."""
    margin: float = Field(default=0.3, ge=0, lt=1.57)
    """Embedding, arcface: by how much the angle to the own centre must be smaller than to others, in radians."""
    temperature: float | None = Field(default=None, gt=0)
    """Embedding: divides the cosines in the loss; left out: 0.05 for arcface, 0.1 for supcon."""
    records_per_label: int | None = Field(default=None, gt=1)
    """Embedding: records of one label side by side in every batch, which is a multiple of it (one task only); null
    takes records as they come."""

    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of a registered task type of your own, as it names them."""

    @property
    def kind(self) -> TaskType:
        """The task type that ``type`` names."""
        return task_type(self.type)

    @model_validator(mode="after")
    def _fits_the_type(self) -> "Task":
        if self.head in COMPUTED_HEADS:
            self._check_computed_head()
        if self.min_probability and "min_probability" not in self.kind.settings:
            raise ValueError(  # here, as a finished run's config may change it
                f"min_probability is for classification, and this task's type is {self.type}: leave it out (multilabel "
                "has `threshold`)"
            )
        for problem in self.kind.task_problems(self):
            raise ValueError(problem)
        if self.imbalance == "logit_adjustment" and not self.kind.is_classification:
            raise ValueError(
                f"logit_adjustment needs one class per record, and this task's type is {self.type}: use class_weights"
            )
        return self

    def _check_computed_head(self) -> None:
        if self.imbalance in ("balanced_sampler", "logit_adjustment"):
            raise ValueError(
                f"head {self.head} is computed, not trained: leave balanced_sampler and logit_adjustment out, or set "
                "head: linear"
            )
        if self.imbalance != "none" and self.head not in ("softmax", "svm"):
            raise ValueError(f"head {self.head} knows no class weights: leave imbalance out, or set head: softmax")
