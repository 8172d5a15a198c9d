"""One training job, built: the model, and the tables as it reads them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from encoders.base import Encoder
from multimodal.builders import (
    build_augmentations,
    build_decodings,
    build_encoders,
    build_label_order,
    build_model,
    build_optimizer_spec,
    build_readers,
    build_target_reader,
    build_views,
    check_augmentations,
    head_arguments,
    sampling_weights,
)
from multimodal.config import ConfigError, Job
from multimodal.config.frozen_rules import closed_form_inputs, mapped_inputs
from multimodal.config.pair_rules import evaluation_views
from multimodal.config.setting import SOURCE
from multimodal.data import Augmentation, RecordDataset, SampleDataset, num_workers
from multimodal.data.domains import JoinedDataset, domain_order
from multimodal.data.order import Order, StepOrder
from multimodal.decoding import Decoding
from multimodal.evaluation import (
    answer,
    calibrations,
    evaluate,
    fit_expert_weights,
    fit_temperatures,
    flat_values,
    score_answers,
)
from multimodal.features import FeatureReader, feature_reader
from multimodal.features.mapped_tokens import mapped_readers
from multimodal.features.views import CachedDataset
from multimodal.job.alignment import fill_zero_shot_heads
from multimodal.metrics import selection_score
from multimodal.metrics.calibration import with_temperature
from multimodal.model import MultimodalModel
from multimodal.records import InputReader, Records
from multimodal.records.targets import TargetReader
from multimodal.runtime.device import choose_precision
from multimodal.runtime.runtime import Runtime
from multimodal.splits.tables import Tables
from multimodal.trainer.state import TrainerOptions
from multimodal.transfer.maps.affine import AffineMap
from multimodal.transfer.plan import parameter_names


@dataclass(frozen=True)
class TrainingSetup:
    """A task with everything that its description stands for."""

    job: Job
    tables: Tables
    encoders: dict[str, Encoder]
    heads: dict[str, dict[str, Any]]
    """Task -> JSON arguments of its head."""
    model: MultimodalModel
    readers: dict[str, InputReader]
    targets: dict[str, TargetReader]
    temperatures: dict[str, float] = field(default_factory=dict)
    """Task -> that of its probabilities, where it was fitted."""
    source_weights: np.ndarray | None = None
    """How much each labelled source record counts in the losses of a step, [n]; None: as a target record does."""
    source_choice: dict[str, Any] = field(default_factory=dict)
    """How these came about, JSON; empty where there was nothing to choose."""
    source_maps: dict[str, AffineMap] = field(default_factory=dict)
    """Input -> what moves the kept tokens of source records to where the target's are; empty where nothing does."""

    @classmethod
    def build(cls, job: Job, tables: Tables, base: Path) -> "TrainingSetup":
        """Builds the model with the task's seed.

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
        check_augmentations(job, encoders)
        learned, *beside = tables.labelled()
        heads = {name: head_arguments(job, name, learned, beside) for name in job.tasks}
        targets = {name: build_target_reader(job, name, heads[name]) for name in heads}
        model = build_model(job, encoders, heads)
        fill_zero_shot_heads(job, model, base)
        return cls(job, tables, encoders, heads, model, build_readers(job, encoders), targets)

    def training_data(self) -> SampleDataset:
        """The tables that train, augmented."""
        kept = {name: reader.views for name, reader in self.readers.items() if isinstance(reader, FeatureReader)}
        augmentations: dict[str, Augmentation] = {**build_augmentations(self.job, self.encoders), **kept}
        data = [
            RecordDataset(
                records,
                self.readers_of(origin),
                self.targets,
                augmentations,
                self.source_weights if origin == SOURCE else None,
                origin,
            )
            for origin, records in self.tables.training()
        ]
        if self._all_kept:
            data = [CachedDataset(part, self.job.transfer.views) for part in data]
        return data[0] if len(data) == 1 else JoinedDataset(data)

    def with_kept_tokens(self, trained: Collection[str], runtime: Runtime) -> "TrainingSetup":
        """The job with tokens in the place of the values of inputs whose encoders never train.

        Args:
            trained: names of the parameters that train at some time.

        Raises:
            ConfigError: if a contrastive task compares views of such an input, which would be equal, or more views are
                asked for and none would differ.
        """
        names, readers = parameter_names(self.model), dict(self.readers)
        # these read tokens also of encoders that have nothing to learn
        computed = {*closed_form_inputs(self.job), *mapped_inputs(self.job)}
        views = build_views(self.job, self.encoders)
        for name, encoder in self.encoders.items():
            own = {names[id(parameter)] for parameter in encoder.parameters()}
            if (own or name in computed) and not own & set(trained):
                _refuse_views(self.job, name)
                readers[name] = feature_reader(
                    self.readers[name],
                    encoder,
                    self.tables.all(),
                    pooled=self.model.uses_mean_token_only(name),
                    runtime=runtime,
                    views=views[name],
                    training=[records for _, records in self.tables.training()],
                )
        _refuse_vain_views(self.job, readers)
        return replace(self, readers=readers)

    def order(self) -> StepOrder:
        """Which rows each step sees."""
        train, tables = self.job.train, self.tables
        grouped = build_label_order(self.job, [records for _, records in tables.training()])
        if grouped is not None:
            return grouped
        labelled = [(len(records), sampling_weights(self.job, records)) for records in tables.labelled()]
        if len(labelled) == 1 and tables.unlabelled is None:
            return Order(labelled[0][0], train.batch_size, train.seed, labelled[0][1])
        unlabelled = None if tables.unlabelled is None else len(tables.unlabelled)
        return domain_order(labelled, unlabelled, batch_size=train.batch_size, seed=train.seed)

    def validate(self) -> tuple[dict[str, float], float]:
        """Metrics on the validation rows as flat numbers, and the score that chooses the best weights.

        The expert weights of late fusion are fitted first, to the same rows.
        """
        data = self._validation
        everything = self.model.input_names
        if self.model.late_heads:
            answers = fit_expert_weights(self.model, data, workers=self.workers)
        else:
            answers = answer(self.model, data, subsets=[everything], workers=self.workers)
        if answers.errors and self.job.data.on_error == "raise":
            raise answers.errors[0]
        metrics = score_answers(answers, everything, data, self.decodings)
        types = {name: task.kind for name, task in self.job.tasks.items()}
        return dict(flat_values(metrics)), selection_score(metrics, self.job.train.metric, types)

    @cached_property
    def _validation(self) -> RecordDataset:
        return self.dataset(self.tables.valid)

    @property
    def _all_kept(self) -> bool:
        """Whether every input is kept tokens."""
        return all(isinstance(reader, FeatureReader) for reader in self.readers.values())

    @property
    def decodings(self) -> dict[str, Decoding]:
        """What turns each task's outputs into answers."""
        heads = {name: self.model.head(name).decoding() for name in self.targets}
        return build_decodings(
            self.job,
            {name: with_temperature(decoding, self.temperatures.get(name, 1.0)) for name, decoding in heads.items()},
        )

    def calibrated(self) -> tuple["TrainingSetup", dict[str, Any]]:
        """The job with temperatures fitted on the validation rows, and how well they fit there."""
        data, everything = self._validation, self.model.input_names
        answers = answer(self.model, data, subsets=[everything], workers=self.workers)
        added = {name: self.model.head(name).loss_offsets for name in self.targets}
        offsets = {name: values.cpu().numpy() for name, values in added.items() if values is not None}
        setup = replace(self, temperatures=fit_temperatures(answers, everything, data, self.decodings, offsets))
        return setup, calibrations(answers, everything, data, setup.decodings)

    def evaluate(self, records: Records) -> dict[str, Any]:
        """Metrics per task and per combination of inputs, and the records that could not be read."""
        return evaluate(
            self.model,
            self.dataset(records),
            self.decodings,
            workers=self.workers,
            on_error=self.job.data.on_error,
        )

    def trainer_options(self, device: torch.device) -> TrainerOptions:
        """Options of the loop on a device.

        Raises:
            ValueError: if the device has no such precision.
        """
        train = self.job.train
        return TrainerOptions(
            optimizer=build_optimizer_spec(self.job),
            accumulate=train.accumulate,
            clip_norm=train.clip_norm,
            precision=choose_precision(train.precision, device),
            seed=train.seed,
            patience=train.patience,
            checkpoint_steps=train.checkpoint_steps,
            workers=self.workers,
            on_error=self.job.data.on_error,
            project_conflicts=train.task_weighting == "pcgrad",
            gradient_cosine=train.gradient_cosine,
        )

    @property
    def workers(self) -> int:
        """Processes that decode."""
        if self._all_kept:
            return 0  # tokens in memory are read sooner than they are passed between processes
        return num_workers(self.job.data.workers)

    def readers_of(self, origin: int) -> dict[str, InputReader]:
        """What reads the inputs of records of this origin: of the source, moved."""
        return mapped_readers(self.readers, self.source_maps) if origin == SOURCE else self.readers

    def maps_for(self, records: Records) -> dict[str, AffineMap]:
        """What moves the tokens of a table: of the source's own, ``source_maps``."""
        tables = self.tables
        source = [tables.train, tables.valid] if tables.setting == "transductive" else [tables.source]
        return self.source_maps if any(records is table for table in source) else {}

    def dataset(self, records: Records) -> RecordDataset:
        """The records as evaluation reads them; tables of the source moved as in training."""
        augmentations = build_augmentations(self.job, self.encoders, training=False)
        readers = mapped_readers(self.readers, self.maps_for(records))
        data = RecordDataset(records, readers, self.targets, augmentations)
        return CachedDataset(data) if self._all_kept else data


def _refuse_vain_views(job: Job, readers: Mapping[str, InputReader]) -> None:
    kept = [name for name, reader in readers.items() if isinstance(reader, FeatureReader)]
    if job.transfer.views > 1 and not any(job.inputs[name].augment.enabled for name in kept):
        reason = f"no view of {' and '.join(kept)} differs" if kept else "no encoder is frozen"
        raise ConfigError(
            f"transfer.views is {job.transfer.views}, but {reason}, so that it has no effect; leave it out, or set "
            f"{' or '.join(f'inputs.{name}.augment.enabled: true' for name in kept) or 'inputs.NAME.frozen: true'}"
        )


def _refuse_views(job: Job, name: str) -> None:
    if name in evaluation_views(job):
        raise ConfigError(
            f"inputs.{name}: a contrastive task compares views of it, but nothing trains its encoder, so that it is "
            "not augmented and they are equal; set weights: null or another transfer.strategy, or leave that task out"
        )
