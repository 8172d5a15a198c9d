"""One training job, built: its model, and the tables as it reads them."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from encoders.base import Encoder
from multimodal.builders.encoders import build_encoders
from multimodal.builders.heads import head_arguments
from multimodal.builders.model import build_model
from multimodal.builders.orders import build_order
from multimodal.builders.strategy_rule import TransferChoice, choose_transfer
from multimodal.config import Job
from multimodal.data.dataset import StepLoader
from multimodal.data.order import StepOrder
from multimodal.job.alignment import fill_zero_shot_heads
from multimodal.job.datasets import Datasets
from multimodal.job.validator import Validator
from multimodal.model import MultimodalModel
from multimodal.splits.tables import Tables


@dataclass(frozen=True)
class TrainingSetup:
    """A job with the objects that its description stands for."""

    job: Job
    encoders: dict[str, Encoder]
    heads: dict[str, dict[str, Any]]
    """Task -> JSON arguments of its head."""
    model: MultimodalModel
    datasets: Datasets
    order: StepOrder
    """Rows of each training step."""
    choice: TransferChoice
    """The strategy that the config names, or that the rule gives."""
    source_choice: dict[str, Any] = field(default_factory=dict)
    """How the weights of source records came about, JSON; empty where there was nothing to choose."""

    @classmethod
    def build(cls, job: Job, tables: Tables, base: Path) -> "TrainingSetup":
        """Builds the model with the job's seed.

        Args:
            base: folder that relative weights and model folders start from.

        Raises:
            ConfigError: if a part cannot be built.
            RecordError: for a training label that cannot be used, with ``data.on_error: raise``.
        """
        inputs = [job.input_column(name) for name in job.inputs]
        for records in tables.all():
            labels = () if records is tables.unlabelled else job.needed_columns()
            records.require([*inputs, *labels])
        torch.manual_seed(job.train.seed)
        encoders = build_encoders(job.inputs, base)
        learned, *beside = tables.labelled()
        heads = {name: head_arguments(job, name, learned, beside) for name in job.tasks}
        model = build_model(job, encoders, heads)
        fill_zero_shot_heads(job, model, base)
        datasets = Datasets.build(job, tables, encoders, heads)
        order, choice = build_order(job, tables), choose_transfer(job, encoders, learned)
        return cls(job, encoders, heads, model, datasets, order, choice)

    @property
    def tables(self) -> Tables:
        """The tables of the job."""
        return self.datasets.tables

    @cached_property
    def loader(self) -> StepLoader:
        """Micro-batches of the training steps."""
        return StepLoader(self.datasets.training, self.order, self.job.train.accumulate, self.datasets.workers)

    @cached_property
    def validator(self) -> Validator:
        """Scores the model on the validation records."""
        job, datasets = self.job, self.datasets
        return Validator(
            self.model, datasets.validation, job.tasks, job.train.metric, datasets.workers, job.data.on_error
        )
