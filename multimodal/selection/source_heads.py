"""Probabilities that the heads of an earlier run give to other records, as LEEP and NCE read them."""

from dataclasses import replace

import numpy as np

from encoders.weights.source_run import SourceRun
from multimodal.data.dataset import RecordDataset
from multimodal.evaluation import answer
from multimodal.features import feature_reader
from multimodal.records import InputReader, Records
from multimodal.run import Run
from multimodal.runtime.runtime import Runtime

NOWHERE = ""
"""A column that no table has: inputs of the run that the records do not have."""


def source_probabilities(source: SourceRun, column: str, records: Records, runtime: Runtime) -> dict[str, np.ndarray]:
    """Classification task of the run -> probabilities [n z] of its classes, from one input alone.

    When not to use: where the run's heads need its other inputs, too; without them they answer from the missing tokens.

    Args:
        column: of the records, which the run's input reads.
        records: all of which can be read.
    """
    run = Run(source.folder)
    readers: dict[str, InputReader] = {name: replace(reader, column=NOWHERE) for name, reader in run.readers.items()}
    for name, reader in run.readers.items():
        if run.model.encoder_of[name] == run.model.encoder_of[source.input]:
            readers[name] = feature_reader(
                replace(reader, column=column),
                run.model.encoder(name),
                [records],
                pooled=run.model.uses_mean_token_only(name),
                runtime=runtime,
            )
    shown = run.model.input_names
    found = answer(run.model, RecordDataset(records, readers, {}), subsets=[shown])
    outputs = found.outputs[shown]
    return {
        task: decoding.scores(outputs[task])
        for task, decoding in run.decodings.items()
        if run.job.tasks[task].kind.is_classification and source.input in run.job.task_inputs(task)
    }


def source_records(source: SourceRun) -> tuple[Records, str] | None:
    """The records that trained the run and the column of the input; None where their file is not as it was."""
    run = Run(source.folder)
    records = run.training_records()
    return None if records is None else (records, run.job.input_column(source.input))
