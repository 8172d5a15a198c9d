"""Datasets of a job: how its tables are read, augmented, weighted and mapped."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from encoders.base import Encoder
from multimodal.builders.encoders import build_augmentations, build_readers
from multimodal.builders.heads import build_target_reader
from multimodal.config import Job
from multimodal.config.setting import SOURCE
from multimodal.data.dataset import Augmentation, RecordDataset, SampleDataset, num_workers
from multimodal.data.domains import JoinedDataset
from multimodal.features import FeatureReader
from multimodal.features.mapped_tokens import mapped_readers
from multimodal.features.views import CachedDataset
from multimodal.records import InputReader, Records
from multimodal.records.targets import TargetReader
from multimodal.splits.tables import Tables
from multimodal.transfer.maps.affine import AffineMap


@dataclass(frozen=True)
class Datasets:
    """The tables of a job as its model reads them."""

    tables: Tables
    readers: dict[str, InputReader]
    targets: dict[str, TargetReader]
    augmentations: Mapping[str, Augmentation]
    """Input -> random change of its training values."""
    compared: Mapping[str, Augmentation]
    """Input -> the same in evaluation, for views that a contrastive task compares."""
    views: int = 1
    """Views of each training value whose encoder is frozen."""
    decoders: int = 0
    """Processes that decode, where there are values to decode."""
    source_weights: np.ndarray | None = None
    """Weight of each labelled source record in the losses of a step, [n]; None: that of a target record."""
    source_maps: dict[str, AffineMap] = field(default_factory=dict)
    """Input -> map of the kept tokens of source records to where the target's are; empty where there is none."""

    @classmethod
    def build(
        cls, job: Job, tables: Tables, encoders: Mapping[str, Encoder], heads: Mapping[str, Mapping[str, Any]]
    ) -> "Datasets":
        """Builds what reads the tables.

        Args:
            heads: task -> arguments of its head.
        """
        return cls(
            tables,
            build_readers(job, encoders),
            {name: build_target_reader(job, name, arguments) for name, arguments in heads.items()},
            build_augmentations(job, encoders),
            build_augmentations(job, encoders, training=False),
            job.transfer.views,
            num_workers(job.data.workers),
        )

    @cached_property
    def training(self) -> SampleDataset:
        """The tables that train, augmented."""
        kept = {name: reader.views for name, reader in self.readers.items() if isinstance(reader, FeatureReader)}
        augmentations: dict[str, Augmentation] = {**self.augmentations, **kept}
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
            data = [CachedDataset(part, self.views) for part in data]
        return data[0] if len(data) == 1 else JoinedDataset(data)

    def evaluation(self, records: Records) -> RecordDataset:
        """The records as evaluation reads them; tables of the source mapped as in training."""
        readers = mapped_readers(self.readers, self.maps_for(records))
        data = RecordDataset(records, readers, self.targets, self.compared)
        return CachedDataset(data) if self._all_kept else data

    @cached_property
    def validation(self) -> RecordDataset:
        """The records that choose the best weights."""
        return self.evaluation(self.tables.valid)

    @property
    def workers(self) -> int:
        """Processes that decode."""
        return 0 if self._all_kept else self.decoders  # tokens in memory are read sooner than passed on by a process

    def readers_of(self, origin: int) -> dict[str, InputReader]:
        """Readers of the inputs of records of this origin: of the source, with its maps."""
        return mapped_readers(self.readers, self.source_maps) if origin == SOURCE else self.readers

    def maps_for(self, records: Records) -> dict[str, AffineMap]:
        """Maps of the tokens of a table: of the source's own, ``source_maps``."""
        tables = self.tables
        source = [tables.train, tables.valid] if tables.setting == "transductive" else [tables.source]
        return self.source_maps if any(records is table for table in source) else {}

    @property
    def _all_kept(self) -> bool:
        """True where every input is kept tokens."""
        return all(isinstance(reader, FeatureReader) for reader in self.readers.values())
