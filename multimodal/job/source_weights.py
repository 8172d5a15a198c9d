"""Weight of each source record of a job: among its own, and beside a target record."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from multimodal.config import ConfigError, errors_of
from multimodal.config.setting import SOURCE, UNLABELLED
from multimodal.data.domains import DomainOrder, source_factor
from multimodal.job.mean_tokens import mean_tokens
from multimodal.job.setup import TrainingSetup
from multimodal.metrics.intervals import effective_size
from multimodal.records import Records
from multimodal.records.targets import ClassTarget, class_readers
from multimodal.runtime.runtime import Runtime
from multimodal.splits.groups import record_groups
from multimodal.splits.tables import Tables
from multimodal.transfer.folds import most_folds
from multimodal.transfer.guard.arms import sample_rows
from multimodal.transfer.instances.domain_weights import density_ratio_weights, kernel_mean_matching
from multimodal.transfer.instances.source_weight import GRID, choose_source_weight
from multimodal.transfer.maps.domain import fit_standardise

logger = logging.getLogger(__name__)

MOST_ROWS = 2000
"""Of each domain, for probes and for kernel mean matching, whose kernel is n x n."""
RECORDS_A_COMPONENT = 5
FEW = 0.1
"""Effective share of the source records below which the weights are warned of."""


@dataclass(frozen=True)
class _Domain:
    """Records that could be read, with their features."""

    records: Records
    rows: np.ndarray
    features: np.ndarray
    """Of these rows."""

    def classes(self, reader: ClassTarget) -> tuple[np.ndarray, np.ndarray]:
        """Places (in ``rows``) of a sample of the labelled records, and the class of each."""
        cells = [reader.read(self.records[row]) for row in self.rows]
        known = np.array([place for place, cell in enumerate(cells) if cell is not None], dtype=np.int64)
        labels = np.array([int(cell) for cell in cells if cell is not None], dtype=np.int64)
        kept = sample_rows(labels, MOST_ROWS)
        return known[kept], labels[kept]


def weight_source_records(setup: TrainingSetup, base: Path, runtime: Runtime) -> TrainingSetup:
    """The job with a weight for each source record; as if there were no source, where its weight is zero.

    Raises:
        ConfigError: if the target labels cannot choose a weight, or there are too few records for the method.
        RecordError: for the first record that cannot be read, with ``data.on_error: raise``.
    """
    settings, tables = setup.job.transfer.source, setup.tables
    transductive = tables.setting == "transductive"
    source = tables.train if transductive else tables.source
    if settings is None or source is None:
        return setup
    among, weight = np.ones(len(source)), 1.0 if settings.weight == "auto" else settings.weight
    choice: dict[str, Any] = {"method": settings.method}
    choice |= {} if settings.map == "none" else {"map": settings.map}
    chosen_here = settings.weight == "auto" and not transductive
    if weight > 0 and (chosen_here or settings.method != "uniform"):
        target = tables.unlabelled if transductive else tables.train
        assert target is not None
        own, there = _domains(setup, [source, target], runtime)
        if settings.method != "uniform":
            among[own.rows] = _among_themselves(settings.method, own, there, setup.job.train.seed)
            choice["effective_size"] = _report_effective_size(among[own.rows])
        if chosen_here:
            weight, scores = _choose(setup, own, there, among[own.rows])
            choice["scores"] = {f"{value:g}": score for value, score in scores.items()}
            listed = ", ".join(f"{value:g} {score:.3f}" for value, score in scores.items())
            logger.info(f"source: held-out target accuracy by weight: {listed}")
    if transductive:
        return _weighted(setup, among, choice)
    choice["weight"] = weight
    if weight == 0:
        logger.info("source: weight 0, as if there were none")
        alone = TrainingSetup.build(setup.job, _without_source(setup), base)
        alone.model.maps.load_state_dict(setup.model.maps.state_dict())
        return replace(alone, source_choice=choice)
    logger.info(f"source: each record counts {weight:g} times a target record")
    order = setup.order
    assert isinstance(order, DomainOrder)
    return _weighted(setup, among * weight * source_factor(order), choice)


def _weighted(setup: TrainingSetup, weights: np.ndarray, choice: dict[str, Any]) -> TrainingSetup:
    return replace(setup, datasets=replace(setup.datasets, source_weights=weights), source_choice=choice)


def few_components(source: np.ndarray, target: np.ndarray) -> int:
    """Principal components that these records can tell the domains apart by; with more, ratios are mostly noise."""
    return max(1, min(64, len(source) // RECORDS_A_COMPONENT, len(target) // RECORDS_A_COMPONENT))


def _without_source(setup: TrainingSetup) -> Tables:
    adapt = setup.job.transfer.adapt
    left_out = (SOURCE, UNLABELLED) if adapt is not None and adapt.compares else (SOURCE,)
    return setup.tables.without(*left_out)


def _domains(setup: TrainingSetup, tables: Sequence[Records], runtime: Runtime) -> list[_Domain]:
    """Features of the readable records of source and target, each column with mean 0 and variance 1 over both."""
    read = mean_tokens(setup, tables, runtime)
    for _, failed in read:
        if failed and setup.job.data.on_error == "raise":
            raise failed[min(failed)]
    rows = [np.setdiff1d(np.arange(len(features)), [*failed]) for features, failed in read]
    kept = [features[good] for (features, _), good in zip(read, rows, strict=True)]
    scaling = fit_standardise(np.concatenate(kept))
    return [_Domain(*part) for part in zip(tables, rows, map(scaling.transform, kept), strict=True)]


def _among_themselves(method: str, source: _Domain, target: _Domain, seed: int) -> np.ndarray:
    """Weights of the source records, mean 1."""
    if method == "density_ratio":
        with errors_of("transfer.source.method: "):
            few = few_components(source.features, target.features)
            return density_ratio_weights(source.features, target.features, components=few, seed=seed).weights
    most = max(len(source.rows), len(target.rows))
    if most > MOST_ROWS:
        raise ConfigError(
            f"transfer.source.method is kmm, whose kernel is n x n, and a table has {most} records; it takes "
            f"{MOST_ROWS} at most: set density_ratio"
        )
    weights = kernel_mean_matching(source.features, target.features)
    return weights / weights.mean()


def _report_effective_size(weights: np.ndarray) -> float:
    size = effective_size(weights)
    logger.info(f"source: {len(weights)} weighted records count like {size:.0f} alike")
    if size < FEW * len(weights):
        logger.warning("source: less than a tenth: the domains hardly overlap; set transfer.source.method: uniform")
    return size


def _choose(
    setup: TrainingSetup, source: _Domain, target: _Domain, among: np.ndarray
) -> tuple[float, dict[float, float]]:
    """The weight with the best mean held-out accuracy over the classification tasks; of equal ones the smallest."""
    totals = dict.fromkeys(GRID, 0.0)
    reason = "no task is a classification"
    chosen_by = 0
    groups = record_groups(target.records, setup.job.data.group)
    for name, reader in class_readers(setup.datasets.targets).items():
        own, own_labels = source.classes(reader)
        there, labels = target.classes(reader)
        together = None if groups is None else groups[target.rows][there]
        if len(own) == 0 or len(there) == 0 or most_folds(labels, together) < 2:
            of = "" if groups is None else f" of different {setup.job.data.group}"
            reason = f"{name} has no class with two target records{of}"
            continue
        # of both domains a sample: the weight of the whole tables, by what each record stands for
        factor = (_labelled(source, reader) / len(own)) / (_labelled(target, reader) / len(there))
        found = choose_source_weight(
            (source.features[own], own_labels),
            (target.features[there], labels),
            grid=[weight * factor for weight in GRID],
            num_classes=len(reader.labels),
            source_weights=among[own],
            groups=together,
            seed=setup.job.train.seed,
        )
        chosen_by += 1
        for weight in GRID:
            totals[weight] += found.scores[weight * factor]
    if chosen_by == 0:
        raise ConfigError(f"transfer.source.weight is auto, but {reason}; give a number, 0 leaves the source out")
    scores = {weight: total / chosen_by for weight, total in totals.items()}
    return max(sorted(scores), key=lambda weight: scores[weight]), scores


def _labelled(domain: _Domain, reader: ClassTarget) -> int:
    return sum(reader.read(domain.records[row]) is not None for row in domain.rows)
