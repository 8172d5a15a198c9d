"""Tables of a job, split into training, validation and test rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from multimodal.config import ConfigError, Job, load_job, override_job
from multimodal.config.setting import (
    SOURCE,
    TABLES,
    TARGET,
    UNLABELLED,
    Setting,
    is_transductive,
    learned_tables,
    setting_of,
)
from multimodal.records.records import Records, read_records
from multimodal.runtime.files import sha256_of
from multimodal.splits.held_out import hold_out, undefined


@dataclass(frozen=True)
class Tables:
    """The records of a job."""

    train: Records
    valid: Records
    test: Records | None
    held_out: tuple[int, ...] | None = None
    """Rows (from 0) of the labelled table that became ``valid``; None where there is a validation table."""
    hashes: dict[str, str] = field(default_factory=dict)
    """sha256 of every table that is a file, by its key in ``data``."""
    left_out: tuple[int, ...] = ()
    """Rows of the labelled table that neither train nor validate: a fold of a cross-validation."""
    setting: Setting = "inductive"
    """In the transductive one ``train`` and ``valid`` are labelled records of the source."""
    source: Records | None = None
    """Labelled source records beside those of the target."""
    unlabelled: Records | None = None
    """Target inputs; its label columns were dropped when it was read."""

    def all(self) -> list[Records]:
        """Every table there is."""
        tables = (self.train, self.valid, self.test, self.source, self.unlabelled)
        return [table for table in tables if table is not None]

    def labelled(self) -> list[Records]:
        """Labelled training tables."""
        return [self.train, *([] if self.source is None else [self.source])]

    def training(self) -> list[tuple[int, Records]]:
        """Training tables, each with the origin of its records."""
        first = SOURCE if self.setting == "transductive" else TARGET
        others = [(SOURCE, self.source), (UNLABELLED, self.unlabelled)]
        return [(first, self.train), *((origin, table) for origin, table in others if table is not None)]

    def without(self, *origins: int) -> "Tables":
        """The tables without the source, or without the unlabelled target inputs."""
        source = None if SOURCE in origins else self.source
        return replace(self, source=source, unlabelled=None if UNLABELLED in origins else self.unlabelled)


def open_job(job: Job | str | Path, overrides: Sequence[str], tables: Mapping[str, Any]) -> tuple[Job, Path]:
    """The job with absolute paths of its tables, and the folder that its weights start from.

    Args:
        tables: replacements of tables in ``job.data``; None: none.

    Raises:
        ConfigError: if the YAML, or what the overrides make of it, describes no job.
    """
    base = Path.cwd()
    if isinstance(job, Job):
        job = override_job(job, overrides)
    else:
        base = Path(job).absolute().parent
        job = load_job(job, overrides)
    return _with_absolute_paths(job, base, tables), base


def _with_absolute_paths(job: Job, base: Path, given: Mapping[str, Any]) -> Job:
    # links are not resolved: a link's own name gives the format, and its folder the root of the media
    files: dict[str, Path | None] = {}
    for key in TABLES:
        table, written = given.get(key), getattr(job.data, key)
        if table is not None:
            files[key] = Path(table) if isinstance(table, str | Path) else None
        elif written is not None:
            files[key] = base / written
    absolute = {key: None if path is None else str(path.absolute()) for key, path in files.items()}
    return job.model_copy(update={"data": job.data.model_copy(update=absolute)})


def read_tables(job: Job, *, root: str | Path | None = None, **given: Any) -> Tables:
    """Reads the job's tables.

    Args:
        given: replacements of tables in ``job.data``, by key; None: none.

    Raises:
        ConfigError: if there are too few training records, another table is empty, one does not fit the methods, or
            the validation records do not define the metric that chooses the best weights.
        ManifestError: if a table cannot be read.
    """
    tables, hashes = read_whole_tables(job, given, root=root)
    learned, chosen = learned_tables(transductive=is_transductive(tables))
    train, valid, held_out = tables[learned], tables.get(chosen), None
    beside = [tables["source"]] if learned == "train" and "source" in tables else []
    if valid is None:
        held_out = hold_out(train, job, beside)
        rest = sorted(set(range(len(train))) - set(held_out))
        train, valid = train.subset(rest), train.subset(held_out)
    elif (why := undefined(job, [train, *beside], valid)) is not None:
        raise ConfigError(why)
    return Tables(
        train,
        valid,
        tables.get("test"),
        held_out,
        hashes,
        setting=setting_of(job, tables),
        source=tables.get("source") if learned == "train" else None,
        unlabelled=tables.get("unlabelled"),
    )


def read_whole_tables(
    job: Job, given: Mapping[str, Any], *, root: str | Path | None = None
) -> tuple[dict[str, Records], dict[str, str]]:
    """Name -> records of each table that there is, nothing held out, and name -> sha256 of those that are files.

    Args:
        given: replacements of tables in ``job.data``, by key; None: none.

    Raises:
        ConfigError, ManifestError: as ``read_tables``.
    """
    sources = {name: getattr(job.data, name) if given.get(name) is None else given[name] for name in TABLES}
    sources = {name: source for name, source in sources.items() if source is not None}
    setting_of(job, sources)  # rejects tables that nothing would read
    tables = {name: read_records(source, root=root, allow_outside=job.data.outside) for name, source in sources.items()}
    learned, _ = learned_tables(transductive=is_transductive(tables))
    count = len(tables[learned]) if learned in tables else 0
    if count < 2:
        raise ConfigError(
            f"there are {count} training records, and at least 2 are needed; name a table in data.{learned}, or pass "
            f"{learned}="
        )
    for name, table in tables.items():
        if not len(table):
            raise ConfigError(f"the {name} table has no record; leave data.{name} out, or add records")
    if "unlabelled" in tables:  # dropped here, so that nothing can read them
        tables["unlabelled"] = tables["unlabelled"].without(job.label_columns().values())
    files = [name for name, source in sources.items() if isinstance(source, str | Path) and Path(source).is_file()]
    return tables, {name: sha256 for name in files if (sha256 := tables[name].sha256) is not None}


def file_hashes(sources: Mapping[str, Any]) -> dict[str, str]:
    """sha256 of the tables that are existing files, by name."""
    files = {name: Path(source) for name, source in sources.items() if isinstance(source, str | Path)}
    return {name: sha256_of(path) for name, path in files.items() if path.is_file()}
