"""The tables of one job, and which of their rows train, validate and test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from encoders.preprocessing import UnreadableValueError
from multimodal.config import ConfigError, Task, load_task
from multimodal.files import sha256_of
from multimodal.records import Records, read_records
from multimodal.targets import ClassTarget, TargetReader

HELD_OUT = 10
"""Without a validation table, one row of train in so many is held out."""


@dataclass(frozen=True)
class Tables:
    """The records of a job."""

    train: Records
    valid: Records
    test: Records | None
    held_out: tuple[int, ...] | None = None
    """Rows (from 0) of the training table that became ``valid``; None where there is a validation table."""
    hashes: dict[str, str] = field(default_factory=dict)
    """sha256 of every table that is a file: "train", "valid", "test"."""

    def all(self) -> list[Records]:
        """Every table there is."""
        return [self.train, self.valid, *([] if self.test is None else [self.test])]


def open_task(task: Task | str | Path, overrides: Sequence[str], tables: Mapping[str, Any]) -> tuple[Task, Path]:
    """The job with absolute paths of its tables, and the folder that its weights start from.

    Args:
        tables: those that stand in the place of ``task.data``, None where there is none.

    Raises:
        ConfigError: if the YAML describes no job.
    """
    base = Path.cwd()
    if not isinstance(task, Task):
        base = Path(task).resolve().parent
        task = load_task(task, overrides)
    return _with_absolute_paths(task, base, tables), base


def _with_absolute_paths(task: Task, base: Path, given: Mapping[str, Any]) -> Task:
    """The job with the files of the tables that it reads: those given, which start from the working directory, first.

    A table that is given as Python objects has no file.
    """
    files: dict[str, Path | None] = {}
    for key, table in given.items():
        written = getattr(task.data, key)
        if table is not None:
            files[key] = Path(table) if isinstance(table, str | Path) else None
        elif written is not None:
            files[key] = base / written
    absolute = {key: None if path is None else str(path.resolve()) for key, path in files.items()}
    return task.model_copy(update={"data": task.data.model_copy(update=absolute)})


def read_tables(
    task: Task, *, train: Any = None, valid: Any = None, test: Any = None, root: str | Path | None = None
) -> Tables:
    """Reads the job's tables; an argument stands in the place of the one that ``task.data`` names.

    Raises:
        ConfigError: if there are too few training records, or another table is empty.
        ManifestError: if a table cannot be read.
    """
    given = {"train": train, "valid": valid, "test": test}
    sources = {name: getattr(task.data, name) if source is None else source for name, source in given.items()}
    tables = {
        name: read_records(source, root=root, allow_outside=task.data.allow_outside)
        for name, source in sources.items()
        if source is not None
    }
    count = len(tables["train"]) if "train" in tables else 0
    if count < 2:
        raise ConfigError(
            f"there are {count} training records, and at least 2 are needed; name a table in data.train, or pass train="
        )
    for name, table in tables.items():
        if not len(table):
            raise ConfigError(f"the {name} table has no record; leave data.{name} out, or add records")
    hashes = {name: sha256_of(Path(source)) for name, source in sources.items() if isinstance(source, str | Path)}
    if "valid" in tables:
        return Tables(tables["train"], tables["valid"], tables.get("test"), hashes=hashes)
    shuffled = np.random.default_rng(task.train.seed).permutation(count)
    cut = max(min(2, count - 1), count // HELD_OUT)  # of one number alone there is no R2
    held_out = tuple(sorted(shuffled[:cut].tolist()))
    train_table, valid_table = tables["train"].subset(sorted(shuffled[cut:].tolist())), tables["train"].subset(held_out)
    return Tables(train_table, valid_table, tables.get("test"), held_out, hashes)


def unseen_labels(records: Records, targets: Mapping[str, TargetReader]) -> dict[str, list[str]]:
    """Task -> labels in a table that training did not have; they will count as wrong, so those of open sets do not."""
    unseen = {
        task: sorted({label for row in records.rows for label in _unseen(reader, row)})
        for task, reader in targets.items()
        if not (isinstance(reader, ClassTarget) and reader.open_set)
    }
    return {task: labels for task, labels in unseen.items() if labels}


def _unseen(reader: TargetReader, row: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        return reader.unseen(row)
    except UnreadableValueError:  # named where the record is read
        return ()
