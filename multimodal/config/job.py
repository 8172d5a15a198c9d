"""The whole job, and its tables."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from multimodal.config.fusion import Fusion
from multimodal.config.inputs import Input
from multimodal.config.rules import RULES
from multimodal.config.section import RESOLVED, Section
from multimodal.config.tasks import Task
from multimodal.config.train import Train
from multimodal.config.transfer import Transfer
from multimodal.config.unread import idle
from multimodal.config.yaml_core import write_yaml

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,39}$"


class Data(Section):
    """Tables of records. Paths are relative to the config, media paths in a table to the table."""

    train: str | None = None
    """CSV, TSV, JSON Lines or Parquet."""
    valid: str | None = None
    """Chooses the best checkpoint; without it a tenth of train is held out, drawn by the seed such that it defines the
    metric."""
    test: str | None = None
    """Evaluated once, after training."""
    source: str | None = None
    """Labelled records of another domain, for transfer.source and transfer.adapt."""
    source_valid: str | None = None
    """Chooses the best checkpoint where there are no target labels (no train); without it a tenth of source does."""
    unlabelled: str | None = None
    """Target inputs without labels, for transfer.adapt and density ratios; its label columns are never read."""
    group: str | None = None
    """Column of groups (one product, one photo session), which neither held-out rows nor folds split. A record whose
    cell is missing is a group of its own."""
    on_error: Literal["raise", "skip"] = "raise"
    """Treatment of an unreadable cell in training: stop and name it, or skip the record, counted and listed."""
    allow_outside: bool = False
    """Permits media outside their manifest's folder (``..``, absolute paths); links are followed."""
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Processes that decode beside training; 0 decodes in the training process."""

    @property
    def outside(self) -> bool | Literal["links"]:
        """Media of the job's tables that may lie outside their folders."""
        return self.allow_outside or "links"


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
        for problem in (problem for rule in RULES for problem in rule(self)):
            raise ValueError(problem)
        for problem in () if info.context is RESOLVED else idle(self):
            raise ValueError(problem)
        return self

    def encoder_input(self, name: str) -> str:
        """Name of the input whose encoder this one uses; its own, unless it shares one."""
        share = self.inputs[name].share
        return name if share is None else share

    def owner(self, name: str) -> Input:
        """The input whose encoder this one uses."""
        return self.inputs[self.encoder_input(name)]

    def input_column(self, name: str) -> str:
        """The manifest's column of an input."""
        column = self.inputs[name].column
        return name if column is None else column

    def task_column(self, name: str) -> str | None:
        """The manifest's column of a task's labels; None where its type has none."""
        task = self.tasks[name]
        if not task.kind.has_column:
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
        modalities = {entry: self.owner(entry).modality for entry in self.task_inputs(name)}
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
