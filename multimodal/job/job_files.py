"""The files that a job reads, before anything is written: its config, tables, models and weights."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from encoders.weights.source_run import MODEL_FILE
from multimodal.builders.encoders import encoder_path, weights_path
from multimodal.config import Candidate, Input, Job
from multimodal.config.setting import TABLES
from multimodal.run import own_files

Files = Iterator[tuple[str, Path]]
"""What each is, and its path, in the terms of ``refuse_overwriting``."""


def job_files(given: Job | str | Path, job: Job, base: Path) -> Files:
    """Files of a job, media aside.

    Args:
        given: the job as it was given; a path is that of the config.
        job: the same, as ``open_job`` gives it.
        base: folder that its weights start from.
    """
    if not isinstance(given, Job):
        yield "the config", Path(given)
    for key in TABLES:
        table = getattr(job.data, key)
        if table is not None:
            yield f"the table data.{key}", Path(table)
    for name, entry in job.inputs.items():
        for place, path in encoder_files([entry, *entry.candidates], base):
            yield f"{place} of inputs.{name}", path
    for name, task in job.tasks.items():
        source = weights_path(task.zero_shot.source, base)
        if source is not None:
            yield from _weights_files(f"tasks.{name}.zero_shot.source", source)


def encoder_files(entries: Iterable[Input | Candidate], base: Path) -> Files:
    """Models and weights that are files, folders or runs, seen from ``base``."""
    for entry in entries:
        model = None if entry.encoder is None else encoder_path(entry.encoder, base)
        weights = weights_path(entry.weights, base)
        if model is not None:
            yield "the model", model
        if weights is not None:
            yield from _weights_files("the weights", weights)
        if entry.encoder is not None and (base / entry.encoder / MODEL_FILE).is_file():  # a run as a candidate
            yield from _weights_files("the weights", base / entry.encoder)


def _weights_files(what: str, path: Path) -> Files:
    """A file or folder; of a run, in whose folder other things may be written, what is its own."""
    run = path if (path / MODEL_FILE).is_file() else path.resolve().parent.parent  # RUN, or RUN/inputs/INPUT
    if (run / MODEL_FILE).is_file():
        yield from ((what, file) for _, file in own_files(run))
    else:
        yield what, path
