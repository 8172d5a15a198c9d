"""One vector a value, as each arm of a transfer check sees it: encoders, the same with random weights, and none."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from encoders import create_encoder
from encoders.base import Encoder
from multimodal.builders.encoders import has_random_weights
from multimodal.features import feature_reader
from multimodal.job import TrainingSetup
from multimodal.job.mean_tokens import input_vectors
from multimodal.plugins import can_train
from multimodal.records import InputReader, RecordError, Records, is_missing
from multimodal.runtime.runtime import Runtime
from multimodal.transfer.guard.arms import PROBE, RANDOM, RAW
from multimodal.transfer.raw_features import MODALITIES, RawFeatures

logger = logging.getLogger(__name__)

Features = dict[str, np.ndarray]
"""Input -> [n d]."""


def arm_features(
    setup: TrainingSetup, inputs: Sequence[str], records: Records, runtime: Runtime
) -> tuple[dict[str, Features], dict[int, RecordError]]:
    """Arm -> features of each input, and the rows that cannot be read, whose features are those of missing values.

    Raises:
        RecordError: for the first of these rows, with ``data.on_error: raise``.
    """
    failed: dict[int, RecordError] = {}
    arms = {
        arm: {name: input_vectors(reader, records, failed) for name, reader in readers.items()}
        for arm, readers in _readers(setup, inputs, records, runtime)
    }
    if failed and setup.job.data.on_error == "raise":
        raise failed[min(failed)]
    return arms, failed


def probe_features(
    setup: TrainingSetup, inputs: Sequence[str], tables: Sequence[Records], runtime: Runtime
) -> list[tuple[Features, dict[int, RecordError]]]:
    """Of each table the features that the job's encoders give, frozen, and the rows that cannot be read."""
    readers = {name: _mean_tokens(setup, name, setup.encoders[name], tables, runtime) for name in inputs}
    found = []
    for records in tables:
        failed: dict[int, RecordError] = {}
        found.append(({name: input_vectors(reader, records, failed) for name, reader in readers.items()}, failed))
    return found


def random_twins(encoders: Mapping[str, Encoder], seed: int) -> dict[str, Encoder]:
    """Each encoder with random weights; one that has them already is its own twin, a shared one has one twin.

    An encoder that cannot train has no architecture that other weights would fit, and no twin.
    """
    twins: dict[int, Encoder] = {}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for encoder in encoders.values():
            if id(encoder) not in twins and can_train(encoder.name):
                twin = encoder
                if not has_random_weights(encoder):
                    twin = create_encoder(encoder.name, weights=None, **encoder.architecture())
                    twin.preprocessor = encoder.preprocessor
                twins[id(encoder)] = twin
    return {name: twins[id(encoder)] for name, encoder in encoders.items() if id(encoder) in twins}


def _readers(
    setup: TrainingSetup, inputs: Sequence[str], records: Records, runtime: Runtime
) -> Iterator[tuple[str, dict[str, InputReader]]]:
    """Arm -> what reads each input."""
    yield (
        RAW,
        {name: _raw_reader(setup, name, records) for name in inputs if setup.encoders[name].modality in MODALITIES},
    )
    for arm, encoders in ((RANDOM, random_twins(setup.encoders, setup.job.train.seed)), (PROBE, setup.encoders)):
        readers: dict[str, InputReader] = {}
        for name in [name for name in inputs if name in encoders]:
            logger.info(f"{arm}: encoding {name} by {encoders[name].name}")
            is_twin = encoders[name] is not setup.encoders[name]
            # nobody asks for a twin's tokens again
            kept = replace(runtime, cache=None) if is_twin else runtime
            readers[name] = _mean_tokens(setup, name, encoders[name], [records], kept)
        yield arm, readers


def _mean_tokens(
    setup: TrainingSetup, name: str, encoder: Encoder, tables: Sequence[Records], runtime: Runtime
) -> InputReader:
    reader = setup.datasets.readers[name]
    return feature_reader(reader, encoder.to(runtime.device), tables, pooled=True, runtime=runtime)


def _raw_reader(setup: TrainingSetup, name: str, records: Records) -> InputReader:
    modality, column = setup.encoders[name].modality, setup.job.input_column(name)
    values = [row.get(column) for row in records.rows] if modality == "text" else []
    texts = [value for value in values if isinstance(value, str) and not is_missing(value)]
    return InputReader(name, column, RawFeatures(modality, texts))
