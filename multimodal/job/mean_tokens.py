"""One vector per record: the mean tokens of its inputs, as closed-form methods take them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from multimodal.builders.encoders import has_random_weights
from multimodal.data.dataset import RecordDataset
from multimodal.features import feature_reader
from multimodal.features.mapped_tokens import mapped_readers
from multimodal.job.setup import TrainingSetup
from multimodal.records import InputReader, RecordError, Records
from multimodal.runtime.runtime import Runtime


def input_vectors(reader: InputReader, records: Records, failed: dict[int, RecordError]) -> np.ndarray:
    """Features of one input [n d+1]: zeros where it is missing or cannot be read, and a last column that says so.

    Args:
        failed: takes the rows that cannot be read.
    """
    dataset, vectors = RecordDataset(records, {reader.name: reader}, {}), []
    for row in range(len(records)):
        arrays, present = reader.preprocessor.blank(), False
        try:
            arrays, present = dataset.read(reader.name, 0, row)
        except RecordError as error:
            failed.setdefault(row, error)
        vector = next(iter(arrays.values())).reshape(-1)  # a mean token [1 d], or raw features [d]
        vectors.append(np.append(vector if present else np.zeros_like(vector), float(not present)))
    return np.stack(vectors)


def mean_tokens(
    setup: TrainingSetup, tables: Sequence[Records], runtime: Runtime
) -> list[tuple[np.ndarray, dict[int, RecordError]]]:
    """For each table the features of all inputs side by side, [n d], by the job's encoders as they are now.

    Source records are moved as the job moves them.

    Returns:
        With each table's features the rows that cannot be read, whose features are those of missing values.
    """
    readers = mean_token_readers(setup, tables, runtime)
    found = []
    for records in tables:
        failed: dict[int, RecordError] = {}
        own = mapped_readers(readers, setup.datasets.maps_for(records))
        vectors = [input_vectors(reader, records, failed) for reader in own.values()]
        found.append((np.concatenate(vectors, axis=1), failed))
    return found


def mean_token_readers(setup: TrainingSetup, tables: Sequence[Records], runtime: Runtime) -> dict[str, InputReader]:
    """Readers of the mean token of each input from the tables, encoded now or kept from before."""
    memory = replace(runtime, cache=None)  # for random weights: nobody will ask for these tokens again
    return {
        name: feature_reader(
            setup.datasets.readers[name],
            encoder.to(runtime.device),
            tables,
            pooled=True,
            runtime=memory if has_random_weights(encoder) else runtime,
        )
        for name, encoder in setup.encoders.items()
    }
