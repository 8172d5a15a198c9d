"""The training loop's settings."""

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, model_validator

from multimodal.config.section import Section, registered
from multimodal.plugins import TRACKERS


class Tracking(Section):
    """An observer of the training, which may stop it. Short form: its name."""

    name: Annotated[str, registered(TRACKERS)]
    """A registered tracker."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Its arguments."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str | type) else data


class Train(Section):
    """The training loop."""

    epochs: int = Field(default=10, gt=0)
    """Passes over the training records, all phases together."""
    batch_size: int = Field(default=32, gt=0)
    """Records per step, over all processes."""
    accumulate: int = Field(default=1, gt=0)
    """Micro-batches per step, to need less memory; contrastive tasks compare within one."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak, for fusion and heads; encoders multiply it by their scale."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: float = Field(default=0.01, ge=0)
    """Not applied to biases and normalisation weights."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """SGD only."""
    warmup: float = Field(default=0.1, ge=0, le=1)
    """Share of each phase's steps until the full learning rate; a cosine to zero follows."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest norm of the whole gradient; null does not clip."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 on CUDA where the device has it, else fp32."""
    seed: int = Field(default=0, ge=0)
    """Seed of initial weights, split, order, augmentation and dropout."""
    patience: int | None = Field(default=None, gt=0)
    """Epochs without a better metric until a phase ends; null trains to the end."""
    metric: str = "mean"
    """Chooses the best checkpoint: "mean" over tasks (accuracy, macro F1, R2 or top1), or "TASK.METRIC"."""
    task_weighting: Literal["fixed", "uncertainty", "pcgrad"] = "fixed"
    """Combination of the tasks' losses: fixed sums them with their weights; uncertainty learns a factor for each;
    pcgrad removes from each task's gradient on encoders and fusion what conflicts with another task."""
    gradient_cosine: bool = True
    """Measures, in the last step of each epoch, the cosines of the tasks' gradients on encoders and fusion; costs one
    backward pass per task in that step, and the memory of as many gradients."""
    checkpoint_steps: int | None = Field(default=None, gt=0)
    """Steps between checkpoints, besides one at each epoch's end."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    trackers: list[Tracking] = Field(default_factory=list)
    """Observers of the training, by their registered names, or each with name and options."""
