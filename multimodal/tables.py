"""The tables of one job, and which of their rows train, validate and test."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from multimodal.config import ConfigError, Task
from multimodal.files import sha256_of
from multimodal.records import Records, class_label, is_missing, read_records
from multimodal.targets import ClassTarget, TargetReader

HELD_OUT = 10
"""Without a validation table, one row of train in so many is held out."""


@dataclass(frozen=True)
class Tables:
    """The records of a job; without a validation table, rows of train are held out."""

    train: Records
    train_rows: np.ndarray
    valid: Records
    valid_rows: np.ndarray
    test: Records | None

    @property
    def held_out(self) -> bool:
        """Whether the validation rows were taken from train."""
        return self.valid is self.train

    def hashes(self) -> dict[str, str]:
        """sha256 of every table that is a file, by file name."""
        tables = {records.source: records for records in (self.train, self.valid, self.test) if records is not None}
        return {Path(source).name: sha256_of(Path(source)) for source in tables if Path(source).is_file()}


def read_tables(
    task: Task, *, train: Any = None, valid: Any = None, test: Any = None, root: str | Path | None = None
) -> Tables:
    """Reads the job's tables; an argument stands in the place of the one that ``task.data`` names.

    Raises:
        ConfigError: if there are too few training records.
    """

    def read(given: Any, path: str | None) -> Records | None:
        source = path if given is None else given
        return None if source is None else read_records(source, root=root, allow_outside=task.data.allow_outside)

    records, validation = read(train, task.data.train), read(valid, task.data.valid)
    if records is None or len(records) < 2:
        raise ConfigError(
            f"there are {0 if records is None else len(records)} training records, and at least 2 are needed; name "
            "a table in data.train, or pass train="
        )
    rows = np.arange(len(records))
    if validation is not None:
        return Tables(records, rows, validation, np.arange(len(validation)), read(test, task.data.test))
    shuffled = np.random.default_rng(task.train.seed).permutation(rows)
    cut = max(1, len(rows) // HELD_OUT)
    train_rows, valid_rows = np.sort(shuffled[cut:]), np.sort(shuffled[:cut])
    return Tables(records, train_rows, records, valid_rows, read(test, task.data.test))


def check_columns(records: Records, columns: list[str]) -> None:
    """Raises ConfigError where the table lacks one of the columns."""
    for column in columns:
        if column not in records.columns:
            raise ConfigError(
                f"{records.source} has no column {column!r}; it has {', '.join(records.columns)}. Correct the "
                "column in the config, or the table's header"
            )


def unseen_labels(records: Records, targets: dict[str, TargetReader]) -> dict[str, list[str]]:
    """Task -> labels in a table that training did not have; they will count as wrong."""
    unseen: dict[str, list[str]] = {}
    for task, reader in targets.items():
        if isinstance(reader, ClassTarget):
            values = (row.get(reader.column) for row in records.rows)
            labels = {class_label(value) for value in values if not is_missing(value)} - set(reader.labels)
            if labels:
                unseen[task] = sorted(labels)
    return unseen
