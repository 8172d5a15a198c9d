"""The job's tasks."""

from typing import Literal

from pydantic import Field, model_validator

from multimodal.config.section import Section

METRICS = {
    "classification": ("accuracy", "balanced_accuracy", "macro_f1", "auc"),
    "multilabel": ("accuracy", "macro_f1", "micro_f1", "auc"),
    "regression": ("rmse", "mae", "r2"),
    "contrastive": ("top1",),
    "embedding": ("recall_at_1", "recall_at_5", "map"),
}
"""Task type -> what can choose the best weights."""


EMBEDDING_KEYS = ("width", "loss", "margin", "temperature")


class Target(Section):
    """One task: a column of answers and how they are learned, or two inputs that find each other without any."""

    type: Literal["classification", "multilabel", "regression", "contrastive", "embedding"] = "classification"
    """embedding: the answer is a vector, near for records of one label and far for others; labels may be new later.
    contrastive: has no column; each of its two inputs shall find the record's other one among those of the batch,
    of which several processes, and the parts that train.accumulate makes, have one each."""
    column: str | None = None
    """Column of the manifest; left out: the task's name."""
    inputs: list[str] | None = Field(default=None, min_length=1)
    """Inputs that this task may use (contrastive: exactly two); left out: all. The others are hidden from it as if
    they were missing."""
    weight: float = Field(default=1.0, gt=0)
    """Of this task's loss, after each loss is divided by that of a head that knows nothing."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    imbalance: Literal["none", "class_weights", "balanced_sampler"] = "none"
    """What evens out rare classes: weights on the loss, or drawing their records more often (one task only)."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Multilabel: probability at which a label is given, before temperature."""
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

    @model_validator(mode="after")
    def _fits_the_type(self) -> "Target":
        if self.type == "regression" and (self.label_smoothing or self.imbalance != "none"):
            raise ValueError("a regression task has no classes: leave label_smoothing and imbalance out")
        if self.type != "classification" and self.min_probability:
            raise ValueError(
                f"min_probability is for classification, and this task's type is {self.type}: leave it out (multilabel "
                "has `threshold`)"
            )
        if self.type == "contrastive" and (self.column is not None or self.label_smoothing or self.imbalance != "none"):
            raise ValueError("a contrastive task has no labels: leave column, label_smoothing and imbalance out")
        check_embedding(self)
        if self.type == "multilabel" and self.imbalance == "balanced_sampler":
            raise ValueError("balanced_sampler needs one class a record; use class_weights for a multilabel task")
        return self


def check_embedding(target: Target) -> None:
    """Refuses keys that do not suit an embedding task, and those of one elsewhere.

    Raises:
        ValueError: says which.
    """
    changed = [key for key in EMBEDDING_KEYS if getattr(target, key) != Target.model_fields[key].default]
    if target.type != "embedding":
        if changed:
            raise ValueError(
                f"{' and '.join(changed)} are of embedding tasks, and this task's type is {target.type}: leave them "
                "out, or set type: embedding"
            )
        return
    if target.label_smoothing or target.imbalance == "class_weights":
        raise ValueError(
            "an embedding task weighs no classes: leave label_smoothing and class_weights out (balanced_sampler may "
            "be set)"
        )
    if target.loss != "arcface" and "margin" in changed:
        raise ValueError(f"margin is of loss: arcface, and this task's is {target.loss}: leave one of them out")
