"""Fits the maps of a job's tokens, without labels: of the inputs that name one, and of source records."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from multimodal.config import errors_of
from multimodal.config.frozen_rules import narrows_source
from multimodal.data.dataset import RecordDataset
from multimodal.job.mean_tokens import mean_token_readers
from multimodal.job.setup import TrainingSetup
from multimodal.records import InputReader, RecordError, Records
from multimodal.runtime.runtime import Runtime
from multimodal.transfer.maps.affine import AffineMap
from multimodal.transfer.maps.domain import fit_into_target, fit_standardise
from multimodal.transfer.maps.pca import fit_pca
from multimodal.transfer.maps.token_map import TokenMap

logger = logging.getLogger(__name__)


def fit_source_maps(setup: TrainingSetup, runtime: Runtime) -> TrainingSetup:
    """The job with a map of each input's tokens that moves source records to where target records are.

    Target records are those of the training table and of the unlabelled one, as far as there are these; where the
    method leaves fewer features, the model gets the target's part.

    Raises:
        ConfigError: if there are too few records for the method.
        RecordError: for the first record that cannot be read, with ``data.on_error: raise``.
    """
    settings, tables = setup.job.transfer.source, setup.tables
    source = tables.train if tables.setting == "transductive" else tables.source
    if settings is None or source is None or settings.map == "none":
        return setup
    target = [table for table in (tables.train, tables.unlabelled) if table is not None and table is not source]
    readers = mean_token_readers(setup, [source, *target], runtime)
    ours = encoder_vectors(setup, [(readers, source)])
    theirs = encoder_vectors(setup, [(readers, table) for table in target])
    moves: dict[str, AffineMap] = {}
    for name in setup.model.encoders:
        with errors_of(f"transfer.source.map is {settings.map}, of inputs.{name}: "):
            maps = fit_into_target(
                _some(ours, name), _some(theirs, name), settings.map, components=settings.components_kept
            )
        moves[name] = maps.source
        if narrows_source(setup.job):
            _fill(setup, name, maps.target)
        logger.info(
            f"{name}: {settings.map} moves {len(ours[name])} source values to {len(theirs[name])} of the target"
        )
    source_maps = {name: moves[owner] for name, owner in setup.model.encoder_of.items()}
    return replace(setup, datasets=replace(setup.datasets, source_maps=source_maps))


def fit_input_maps(setup: TrainingSetup) -> None:
    """Fits the map of each input that names one and puts it into the model.

    It sees the mean tokens of all training tables (target, source, unlabelled), and no label.

    Args:
        setup: with kept tokens.

    Raises:
        ConfigError: if there are too few records for the method.
        RecordError: for the first record that cannot be read, with ``data.on_error: raise``.
    """
    kept_as = setup.model.encoder_of
    settings = {kept_as[name]: entry.map for name, entry in setup.job.inputs.items() if entry.map is not None}
    if not settings:
        return
    used = {name for name, owner in kept_as.items() if owner in settings}
    tables = [(setup.datasets.readers_of(origin), records) for origin, records in setup.tables.training()]
    chosen = [({name: readers[name] for name in used}, records) for readers, records in tables]
    vectors = encoder_vectors(setup, chosen)
    for name, given in settings.items():
        with errors_of(f"inputs.{name}.map: "):
            found = _some(vectors, name)
            fitted = (
                fit_standardise(found)
                if given.components is None
                else fit_pca(found, given.components, whiten=given.whiten)
            )
        _fill(setup, name, fitted)
        kept = "" if given.components is None else f" to {given.components} of {found.shape[1]} features"
        logger.info(f"{name}: {given.method}{kept}, of the mean tokens of {len(found)} values")


def encoder_vectors(
    setup: TrainingSetup, tables: Sequence[tuple[Mapping[str, InputReader], Records]]
) -> dict[str, np.ndarray]:
    """Encoder, by the name under which the model keeps it -> mean tokens [n d] of all values that it reads.

    Args:
        tables: each with the readers of its inputs, which give kept tokens.

    Raises:
        RecordError: for the first record that cannot be read, with ``data.on_error: raise``.
    """
    found: dict[str, list[np.ndarray]] = {}
    for readers, records in tables:
        data = RecordDataset(records, readers, {})
        for row in range(len(records)):
            for name in readers:
                try:
                    arrays, present = data.read(name, 0, row)
                except RecordError:
                    if setup.job.data.on_error == "raise":
                        raise
                    continue
                if present:
                    found.setdefault(setup.model.encoder_of[name], []).append(arrays["tokens"].mean(axis=0))
    return {name: np.array(values, dtype=np.float64) for name, values in found.items()}


def _some(vectors: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in vectors:
        raise ValueError("no record has it; leave the map out, or add records")
    return vectors[name]


def _fill(setup: TrainingSetup, name: str, fitted: AffineMap) -> None:
    place = setup.model.maps[name]
    assert isinstance(place, TokenMap)
    place.fill(fitted)
