"""Quick checks before a training: missing files, first records, labels."""

import logging
from collections.abc import Iterator
from pathlib import Path

from encoders.preprocessing import UnreadableValueError
from encoders.preprocessing.audio import audio_doubt, decode_audio
from multimodal.check.labels import HELD_OUT, label_problems
from multimodal.check.problems import Problem, Split, first_of_each
from multimodal.config.setting import learned_tables
from multimodal.job import TrainingSetup
from multimodal.records import InputReader, RecordError, Records, is_missing
from multimodal.records.media import media_path, respelling

logger = logging.getLogger(__name__)

FIRST = 16
"""Records of each table that are read, at most a batch."""
SHOWN = 3
"""Warnings of one kind about one column."""


def look_first(setup: TrainingSetup) -> None:
    """Checks that files exist, the first records of every table, and labels.

    Raises:
        RecordError: for the first record that cannot be used, with ``data.on_error: raise``; else they are counted.
    """
    splits = _splits(setup)
    found = list(label_problems(setup.job, [split for split in splits if split.name != "unlabelled"]))
    errors = {split.name: sorted(_errors(setup, split, found), key=lambda error: error.row) for split in splits}
    for problem in first_of_each([problem for problem in found if problem.severity == "warning"], SHOWN):
        logger.warning(f"{problem.file}: {problem.column}: {problem.message}")
    for split in splits:
        rows = len({error.row for error in errors[split.name]})
        if not rows:
            continue
        first = errors[split.name][0]
        if setup.job.data.on_error == "raise":
            more = (
                f"; {rows - 1} more of {split.file} cannot be used: `multimodal check` lists them" if rows > 1 else ""
            )
            raise RecordError(first.row, first.input, first.reason + more)
        count = f"{rows} record{'s' * (rows != 1)} cannot be used and will be left out"
        logger.warning(f"{split.file}: {count} (data.on_error: skip), first {first.reason}")


def _splits(setup: TrainingSetup) -> list[Split]:
    tables = setup.tables
    learned, chosen = learned_tables(transductive=tables.setting == "transductive")
    named: dict[str, Records | None] = {
        learned: tables.train,
        chosen if tables.held_out is None else HELD_OUT: tables.valid,
    }
    named |= {"test": tables.test, "source": tables.source, "unlabelled": tables.unlabelled}
    splits: list[Split] = []
    for name, records in named.items():
        if records is not None:
            taken = any(split.file == records.source for split in splits)
            splits.append(Split(name, f"{records.source} ({name})" if taken else records.source, records))
    return splits


def _errors(setup: TrainingSetup, split: Split, found: list[Problem]) -> Iterator[RecordError]:
    records = split.records
    for problem in found:
        if problem.severity == "error" and problem.file == split.file and problem.row is not None:
            place = records.place(problem.row - 1, problem.column)
            yield RecordError(problem.row - 1, problem.column, f"{place}: {problem.message}")
    for reader in setup.datasets.readers.values():
        if reader.reads_paths:
            yield from _missing_files(records, reader)
        if reader.preprocessor.modality == "audio":
            _warn_of_audio(records, reader)
    data = setup.datasets.evaluation(records)
    for row in range(min(len(records), FIRST, setup.job.train.batch_size)):
        error = data[0, row].error
        if error is not None:
            yield error


def _missing_files(records: Records, reader: InputReader) -> Iterator[RecordError]:
    reasons: dict[str, str | None] = {}
    notes: list[str] = []
    for row, record in enumerate(records.rows):
        value = record.get(reader.column)
        if is_missing(value) or not isinstance(value, str | Path):
            continue
        path = str(value)
        if path not in reasons:
            try:
                found = media_path(path, records.root, allow_outside=records.allow_outside)
                reasons[path], note = None, respelling(path, found, records.root)
                notes += [] if note is None else [note]
            except UnreadableValueError as error:
                reasons[path] = str(error)
        if reasons[path] is not None:
            yield RecordError(row, reader.name, f"{records.place(row, reader.column)}: {reasons[path]}")
    if notes:
        count = f"{len(notes)} of {len(reasons)} paths are not spelled as their files"
        logger.warning(f"{records.source}: {reader.column}: {count}, first {notes[0]}")


def _warn_of_audio(records: Records, reader: InputReader) -> None:
    """Says how many of the first waveforms are to be doubted."""
    doubts = []
    for row in range(min(len(records), FIRST)):
        raw = records[row].get(reader.column)
        try:
            if isinstance(raw, str | Path):
                raw = media_path(raw, records.root, allow_outside=records.allow_outside)
            doubt = None if is_missing(raw) else audio_doubt(raw, decode_audio(raw)[0])
        except UnreadableValueError:
            continue  # an error of the record
        doubts += [] if doubt is None else [f"{records.place(row, reader.column)} {doubt}"]
    if doubts:
        logger.warning(f"{len(doubts)} of the first {min(len(records), FIRST)} records: {doubts[0]}")
