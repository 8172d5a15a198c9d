"""The description of a job: the Python interface, and what YAML files hold. Unknown keys are errors."""

import copy
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from multimodal.pairs import check_pair

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,39}$"


METRICS = {
    "classification": ("accuracy", "balanced_accuracy", "macro_f1", "auc"),
    "multilabel": ("accuracy", "macro_f1", "micro_f1", "auc"),
    "regression": ("rmse", "mae", "r2"),
    "contrastive": ("top1",),
}
"""Task type -> what can choose the best weights."""


class ConfigError(ValueError):
    """A job description that cannot be used; the message says where, what is allowed and what to do."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _suggest(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for key in data:
                if key not in cls.model_fields:
                    near = difflib.get_close_matches(str(key), cls.model_fields, n=1)
                    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(cls.model_fields)}"
                    raise ValueError(f"unknown key {key!r}; {hint}")
        return data


class Data(_Section):
    """Where the records are. Paths are relative to the config; media paths inside are relative to the manifest."""

    train: str | None = None
    """CSV, JSON Lines or Parquet."""
    valid: str | None = None
    """Chooses the best checkpoint; without it a tenth of train, drawn with the seed, is held out."""
    test: str | None = None
    """Evaluated once, after training."""
    on_error: Literal["raise", "skip"] = "raise"
    """What an unreadable cell does in training: stop, naming it, or leave the record out, counted and listed."""
    allow_outside: bool = False
    """Whether media may lie outside their manifest's folder."""
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Processes that decode beside training; 0 decodes in the training process."""


class Augment(_Section):
    """Changes to training values, drawn from (seed, epoch, row, input's name). 0 turns one off.

    Not used in evaluation, but for two views of one value that a contrastive task compares: they would be equal.
    """

    enabled: bool = True
    """False turns all of them off for this input."""
    crop: float = Field(default=0.3, ge=0, lt=1)
    """Image: largest share of the area that a random crop takes away."""
    flip: float = Field(default=0.5, ge=0, le=1)
    """Image: probability of a left-right flip."""
    color: float = Field(default=0.2, ge=0, lt=1)
    """Image: largest relative change of brightness, contrast and saturation."""
    rotation: float = Field(default=10.0, ge=0, le=180)
    """Image: largest rotation, in degrees; the corners get the mean colour."""
    token_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Text: probability of leaving out each word; never all of them."""
    shift: float = Field(default=0.1, ge=0)
    """Audio: longest silence that is put before or after, in seconds; nothing is cut off."""
    gain: float = Field(default=6.0, ge=0)
    """Audio: largest change of loudness, in decibels."""
    noise: float = Field(default=0.005, ge=0)
    """Audio: largest root-mean-square of added white noise, relative to full scale."""
    speed: float = Field(default=0.1, ge=0, lt=0.5)
    """Audio: largest relative change of speed; pitch changes with it."""
    time_mask: float = Field(default=0.1, ge=0, lt=1)
    """Audio: largest share of the clip that one time mask of SpecAugment silences."""
    frequency_mask: float = Field(default=0.1, ge=0, lt=1)
    """Audio: largest share of the band that one frequency mask of SpecAugment silences."""


class Input(_Section):
    """One input of the model: a column and the encoder that reads it."""

    column: str | None = None
    """Column of the manifest; left out: the input's name."""
    modality: Literal["image", "text", "audio"] | str | None = None
    """Left out: the encoder's."""
    encoder: str | None = None
    """Registered name, e.g. "torchvision/resnet18"; `multimodal encoders` lists them."""
    weights: str | None = "default"
    """"pretrained", null (random), a file, a folder, a hub id or an earlier run; "default": the registry's own
    weights where the encoder has any, else random."""
    share: str | None = None
    """Another input of the same modality, whose encoder and weights this one uses."""
    frozen: bool = False
    """Keeps this encoder as it is, whatever the strategy."""
    learning_rate_scale: float | None = Field(default=None, gt=0)
    """Factor on the learning rate for this encoder; left out: 1 with random weights, else transfer.encoder_scale."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Passed to the encoder's builder, e.g. {image_size: 96}."""
    augment: Augment = Augment()

    @model_validator(mode="after")
    def _one_encoder(self) -> "Input":
        if (self.encoder is None) == (self.share is None):
            raise ValueError("give either `encoder`, or `share` with the name of another input")
        own = self.weights != "default" or self.frozen or self.learning_rate_scale is not None or self.options
        if self.share is not None and own:
            raise ValueError(
                "weights, frozen, learning_rate_scale and options belong to the encoder; set them on the input "
                f"{self.share!r}, whose encoder is shared"
            )
        return self


class Fusion(_Section):
    """How the inputs' tokens become one vector."""

    name: Literal["concat", "attention", "gated", "late"] = "attention"
    """late: a head per input, trained by itself; their answers are added, with trusts fitted on validation records."""
    dim: int | None = Field(default=None, gt=0)
    """Width of the fused vector; null is the fusion's own default (concat: the plain concatenation)."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    num_queries: int | None = Field(default=None, gt=0)
    """Attention: how many summaries of the record are learned."""
    num_heads: int | None = Field(default=None, gt=0)
    """Attention: must divide dim."""
    modality_dropout: float | dict[str, float] = 0.0
    """Probability of hiding each present input of a record in training, or input: its own; never all of them."""
    unimodal_weight: float = Field(default=0.0, ge=0)
    """Of the losses of auxiliary heads that see one input each, relative to their task's; 0 makes none. They keep an
    encoder learning beside a stronger one, and are not exported."""

    @model_validator(mode="after")
    def _late_stands_alone(self) -> "Fusion":
        for key in ("dim", "modality_dropout", "unimodal_weight"):
            if self.name == "late" and getattr(self, key):
                raise ValueError(f"late fusion trains a head per input, each by itself: leave {key} out")
        return self

    @field_validator("modality_dropout")
    @classmethod
    def _shares(cls, value: float | dict[str, float]) -> float | dict[str, float]:
        for share in value.values() if isinstance(value, dict) else [value]:
            if not 0 <= share < 1:
                raise ValueError(f"{share:g} is no probability below 1; give one from 0 to 0.99")
        return value

    def options(self) -> dict[str, Any]:
        """Arguments for ``create_fusion`` that were given."""
        given = {"dropout": self.dropout, "num_queries": self.num_queries, "num_heads": self.num_heads}
        return {key: value for key, value in given.items() if value is not None}


class Target(_Section):
    """One task: a column of answers and how they are learned, or two inputs that find each other without any."""

    type: Literal["classification", "multilabel", "regression", "contrastive"] = "classification"
    """contrastive: has no column; each of its two inputs shall find the record's other one among those of the batch,
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
        if self.type == "multilabel" and self.imbalance == "balanced_sampler":
            raise ValueError("balanced_sampler needs one class a record; use class_weights for a multilabel task")
        return self


class Lora(_Section):
    """Low-rank parts beside the matrices of encoders that come with weights."""

    rank: int = Field(default=8, gt=0)
    alpha: float = Field(default=16.0, gt=0)
    """How strongly they count."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping an input of theirs in training."""
    targets: dict[str, list[str]] = Field(default_factory=dict)
    """Input: names of modules to adapt; left out: the linear layers of its attention, else all linear layers."""


class Transfer(_Section):
    """How pretrained weights are used."""

    strategy: Literal[
        "linear_probe",
        "finetune",
        "probe_then_finetune",
        "gradual_unfreezing",
        "layerwise_lr_decay",
        "norm_and_bias",
        "lora",
    ] = "finetune"
    """What trains when, of encoders that come with weights; docs/transfer.md says which is for what."""
    probe_epochs: int | None = Field(default=None, gt=0)
    """probe_then_finetune: most epochs of the first phase, which freezes encoders that come with weights; left out:
    a third of train.epochs, at least 1."""
    unfreeze_from: int = Field(default=0, ge=0)
    """First depth group of each encoder with weights that fine-tuning changes; 0 changes all of it."""
    encoder_scale: float | None = Field(default=None, gt=0)
    """Factor on the learning rate for encoders that come with weights; left out: what suits each, 1 for compact/*, 0.1
    for the others."""
    layer_decay: float = Field(default=0.75, gt=0, le=1)
    """layerwise_lr_decay: factor from one depth group to the one before it."""
    lora: Lora = Lora()
    """lora: of the low-rank parts."""


class Train(_Section):
    """The training loop."""

    epochs: int = Field(default=10, gt=0)
    """Passes over the training records, all phases together."""
    batch_size: int = Field(default=32, gt=0)
    """Records a step, over all processes."""
    accumulate: int = Field(default=1, gt=0)
    """Parts that each step's batch is cut into, to need less memory; contrastive tasks compare within a part."""
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
    """Of everything: initial weights, split, order, augmentation, dropout."""
    patience: int | None = Field(default=None, gt=0)
    """Epochs without a better metric until a phase ends; null trains to the end."""
    metric: str = "mean"
    """Chooses the best checkpoint: "mean" over tasks (accuracy, macro F1, R2 or top1), or "TASK.METRIC"."""
    checkpoint_steps: int | None = Field(default=None, gt=0)
    """Steps between checkpoints, besides one at each epoch's end."""
    device: Literal["auto", "cpu", "cuda"] = "auto"


class Task(_Section):
    """A whole job: records, inputs, fusion, tasks, and how to train."""

    name: str = "task"
    data: Data = Data()
    inputs: dict[str, Input]
    fusion: Fusion = Fusion()
    tasks: dict[str, Target]
    transfer: Transfer = Transfer()
    train: Train = Train()

    @field_validator("inputs", "tasks")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not value:
            raise ValueError("is empty; give at least one")
        for name in value:
            if not re.fullmatch(NAME_PATTERN, name):
                raise ValueError(
                    f"the name {name!r} cannot be used; names are lower-case letters, digits and _, start with a "
                    "letter and have at most 40 characters"
                )
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> "Task":
        dropout = self.fusion.modality_dropout
        self._check_inputs("fusion.modality_dropout", dropout if isinstance(dropout, dict) else ())
        self._check_inputs("transfer.lora.targets", self.transfer.lora.targets)
        for name, entry in self.inputs.items():
            if entry.share is not None and (entry.share not in self.inputs or self.inputs[entry.share].encoder is None):
                raise ValueError(f"inputs.{name}.share: {entry.share!r} is not an input with an encoder of its own")
        for name, target in self.tasks.items():
            self._check_inputs(f"tasks.{name}.inputs", target.inputs or ())
            if name in ("error", "embedding") or name.endswith("_probability"):
                raise ValueError(f"tasks.{name}: this name is taken in the answers; take another")
            if target.type == "contrastive":
                check_pair(self, name)
        self._check_metric()
        balanced = [name for name, target in self.tasks.items() if target.imbalance == "balanced_sampler"]
        if len(balanced) > 1:
            raise ValueError(f"tasks {' and '.join(balanced)} both want balanced_sampler; only one can have it")
        return self

    def _check_inputs(self, place: str, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.inputs:
                raise ValueError(f"{place}: there is no input {name!r}; there are {', '.join(self.inputs)}")

    def _check_metric(self) -> None:
        known = [f"{name}.{metric}" for name, target in self.tasks.items() for metric in METRICS[target.type]]
        if self.train.metric not in ("mean", *known):
            near = difflib.get_close_matches(self.train.metric, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are mean, {', '.join(known)}"
            raise ValueError(f"train.metric: there is no metric {self.train.metric!r}; {hint}")

    def input_column(self, name: str) -> str:
        """The manifest's column of an input."""
        column = self.inputs[name].column
        return name if column is None else column

    def task_column(self, name: str) -> str | None:
        """The manifest's column of a task's answers; None where it is contrastive and has none."""
        target = self.tasks[name]
        if target.type == "contrastive":
            return None
        return name if target.column is None else target.column

    def label_columns(self) -> dict[str, str]:
        """The manifest's column of each task that has one."""
        columns = {name: self.task_column(name) for name in self.tasks}
        return {name: column for name, column in columns.items() if column is not None}

    def task_inputs(self, name: str) -> list[str]:
        """The inputs that a task may use, in config order."""
        chosen = self.tasks[name].inputs
        return [entry for entry in self.inputs if chosen is None or entry in chosen]

    def to_yaml(self) -> str:
        """YAML that ``load_task`` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_task(path: str | Path, overrides: Sequence[str] = ()) -> Task:
    """Reads a job description.

    Args:
        path: YAML file.
        overrides: "a.b=c" each; the value is read as YAML.

    Raises:
        ConfigError: if the file is missing, is not YAML, or describes no job.
    """
    path = Path(path)
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a YAML config") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: holds no job; it needs at least `inputs` and `tasks`")
    return parse_task(loaded, overrides, source=str(path))


def parse_task(values: dict[str, Any], overrides: Sequence[str] = (), *, source: str = "config") -> Task:
    """Validates a job description that is already a dict; ``source`` begins the error messages."""
    values = copy.deepcopy(values)
    for override in overrides:
        _apply_override(values, override)
    try:
        return Task.model_validate(values)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            place = ".".join(str(part) for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{source}: {place + ': ' if place else ''}{message}")
        raise ConfigError("\n".join(lines)) from error


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override!r} is not of the form a.b=c, for example train.epochs=3")
    node = values
    *parents, last = key.split(".")
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override!r}: {parent!r} is a single value and has no parts")
        node = child
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: {text!r} is not valid YAML; put quotes around a text") from error
