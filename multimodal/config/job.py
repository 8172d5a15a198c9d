"""The whole job, and what must fit together in it."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationInfo, field_validator, model_validator

from multimodal.config.data import Data
from multimodal.config.fusion import Fusion
from multimodal.config.head_rules import check_closed_form
from multimodal.config.inputs import Input
from multimodal.config.map_rules import check_maps
from multimodal.config.pair_rules import check_contrastive_inputs
from multimodal.config.sampling_rules import check_label_groups
from multimodal.config.section import RESOLVED, Section
from multimodal.config.tasks import METRICS, Task
from multimodal.config.train import Train
from multimodal.config.transfer import Transfer
from multimodal.config.unread import idle
from multimodal.config.yaml_core import write_yaml

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,39}$"


class Job(Section):
    """A whole job: records, inputs, fusion, tasks, and how to train."""

    name: str = "task"
    data: Data = Data()
    inputs: dict[str, Input]
    fusion: Fusion = Fusion()
    tasks: dict[str, Task]
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
    def _fits_together(self, info: ValidationInfo) -> "Job":
        dropout = self.fusion.modality_dropout
        self._check_inputs("fusion.modality_dropout", dropout if isinstance(dropout, dict) else ())
        self._check_inputs("transfer.lora.targets", self.transfer.lora.targets)
        adapt = self.transfer.adapt
        self._check_inputs("transfer.adapt.on", adapt.on if adapt is not None and adapt.on != "fused" else ())
        for name, entry in self.inputs.items():
            if entry.share is not None and (entry.share not in self.inputs or self.inputs[entry.share].encoder is None):
                raise ValueError(f"inputs.{name}.share: {entry.share!r} is not an input with an encoder of its own")
        for name, task in self.tasks.items():
            self._check_inputs(f"tasks.{name}.inputs", task.inputs or ())
            if name in ("error", "embedding") or name.endswith("_probability"):
                raise ValueError(f"tasks.{name}: this name is taken in the answers; take another")
            if task.type == "contrastive":
                check_contrastive_inputs(self, name)
            if task.head == "zero_shot":
                self.zero_shot_input(name)
            if task.type == "embedding" and self.fusion.name == "late":
                raise ValueError(
                    f"tasks.{name}: an embedding task needs one vector of all inputs, and late fusion keeps them "
                    "apart; set fusion.name: attention, gated or concat"
                )
        check_closed_form(self)
        check_maps(self)
        untrained = [name for name, task in self.tasks.items() if task.head != "zero_shot"]
        if self.transfer.strategy == "none" and untrained:
            raise ValueError(
                f"transfer.strategy is none, which leaves the head of {' and '.join(untrained)} with random weights; "
                "set head: zero_shot, or take another strategy"
            )
        self._check_metric()
        for problem in () if info.context is RESOLVED else idle(self):
            raise ValueError(problem)
        if self.train.task_weighting != "fixed" and len(self.tasks) < 2:
            raise ValueError(
                f"train.task_weighting is {self.train.task_weighting}, which weighs tasks against each other, and "
                "there is only one; leave it out"
            )
        balanced = [name for name, task in self.tasks.items() if task.imbalance == "balanced_sampler"]
        if len(balanced) > 1:
            raise ValueError(f"tasks {' and '.join(balanced)} both want balanced_sampler; only one can have it")
        check_label_groups(self)
        adjusted = [name for name, task in self.tasks.items() if task.imbalance == "logit_adjustment"]
        if balanced and adjusted:
            raise ValueError(
                f"tasks.{balanced[0]} wants balanced_sampler, which changes how often the classes of tasks."
                f"{adjusted[0]} are drawn, and that one wants logit_adjustment: leave one of them out"
            )
        return self

    def _check_inputs(self, place: str, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.inputs:
                raise ValueError(f"{place}: there is no input {name!r}; there are {', '.join(self.inputs)}")

    def _check_metric(self) -> None:
        known = [f"{name}.{metric}" for name, task in self.tasks.items() for metric in METRICS[task.type]]
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
        task = self.tasks[name]
        if task.type == "contrastive":
            return None
        return name if task.column is None else task.column

    def label_columns(self) -> dict[str, str]:
        """The manifest's column of each task that has one."""
        columns = {name: self.task_column(name) for name in self.tasks}
        return {name: column for name, column in columns.items() if column is not None}

    def needed_columns(self) -> list[str]:
        """The label columns that every table must have; zero-shot tasks that name their classes do without."""
        known = {name for name, task in self.tasks.items() if task.zero_shot.labels is not None}
        return [column for name, column in self.label_columns().items() if name not in known]

    def zero_shot_input(self, name: str) -> str:
        """The input whose embedding a zero-shot task compares with its classes' names.

        Raises:
            ValueError: if there is none, or a choice.
        """
        given = self.tasks[name].zero_shot.input
        owners = {entry: self.inputs[entry].share or entry for entry in self.task_inputs(name)}
        modalities = {entry: self.inputs[owner].modality for entry, owner in owners.items()}
        fitting = [entry for entry, modality in modalities.items() if modality != "text"] if given is None else [given]
        if len(fitting) != 1 or fitting[0] not in modalities:
            raise ValueError(
                f"tasks.{name}.zero_shot.input: {given!r} names no one input to compare; give one of "
                f"{', '.join(modalities)} (or say modality: text of those that are)"
            )
        return fitting[0]

    def task_inputs(self, name: str) -> list[str]:
        """The inputs that a task may use, in config order."""
        chosen = self.tasks[name].inputs
        return [entry for entry in self.inputs if chosen is None or entry in chosen]

    def to_yaml(self) -> str:
        """YAML that ``load_job`` reads back."""
        return write_yaml(self.model_dump(mode="json"))
