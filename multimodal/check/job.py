"""`multimodal check`: all checks of a job's tables. Never imports torch."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from encoders import find_encoder
from encoders.preprocessing import UnreadableValueError
from multimodal.check.labels import label_problems
from multimodal.check.media import DECODERS, media_problems
from multimodal.check.problems import Problem, Split
from multimodal.config import ConfigError, Job
from multimodal.config.setting import TABLES, is_transductive, learned_tables, table_problems
from multimodal.records import ManifestError, RecordError, class_label, is_missing, label_set, read_records
from multimodal.splits.held_out import hold_out, undefined

__all__ = ["Problem", "check_job"]

CONFIG = "config"


def check_job(job: Job, base: Path) -> list[Problem]:
    """Problems of the tables of a job; decodes every image and audio file.

    Errors: tables and cells that cannot be read, missing columns, records without any input, an input column
    that equals a label column, labels or pairs of which nothing can be learned. Warnings: media with the same
    content in two splits (compared by SHA-256, never by path) or, where all inputs are media, with contradicting
    labels; labels missing from train (and source) or occurring once; empty columns. Unlabelled inputs may occur in
    other tables.

    Args:
        base: folder that the paths of ``job.data`` start from.

    Returns:
        Errors first, then warnings; each in the order config, then tables as ``TABLES`` has them, and by row.

    >>> from multimodal.config import parse_job
    >>> job = {"inputs": {"text": {"encoder": "compact/text"}}, "tasks": {"product": {}}}
    >>> [problem.message for problem in check_job(parse_job(job), Path())]
    ['data.train names no table; name one to train on']
    """
    modalities, problems = _modalities(job)
    splits: list[Split] = []
    given = [name for name in TABLES if getattr(job.data, name) is not None]
    if "train" not in given and "source" not in given:
        problems.append(Problem("error", CONFIG, None, None, "data.train names no table; name one to train on"))
    problems += [Problem("error", CONFIG, None, None, message) for message in table_problems(job, given)]
    for name in given:
        split, found = _read_split(job, name, base)
        splits += [] if split is None else [split]
        problems += found
    for split in splits:
        problems += _input_problems(job, split, modalities)
    problems += [] if job.data.group is None else _group_problems(job.data.group, splits)
    problems += _pair_problems(job, splits)
    problems += label_problems(job, splits)
    problems += _choice_problems(job, splits)
    problems += media_problems(job, splits, modalities)
    files = [CONFIG, *(getattr(job.data, name) for name in TABLES)]
    return sorted(problems, key=lambda found: (found.severity != "error", files.index(found.file), found.row or 0))


def _modalities(job: Job) -> tuple[dict[str, str], list[Problem]]:
    """Each input's modality, without building its encoder."""
    modalities, problems = {}, []
    for name, entry in job.inputs.items():
        owner = job.owner(name)
        try:
            known = find_encoder(str(owner.encoder)).modality
            known = "unknown" if known == "any" else known  # of transformers/*, which its files would say
        except LookupError as error:
            problems.append(Problem("error", CONFIG, None, None, f"inputs.{name}: {error.args[0]}"))
            known = "unknown"
        given = owner.modality if entry.modality is None else entry.modality
        modalities[name] = known if given is None else given
        if "unknown" not in (known, modalities[name]) and known != modalities[name]:
            message = f"inputs.{name}: modality is {given!r}, but the encoder {owner.encoder} reads {known!r}"
            problems.append(Problem("error", CONFIG, None, None, f"{message}; leave modality out"))
        elif modalities[name] not in (*DECODERS, "text"):
            message = f"inputs.{name}: values of the modality {modalities[name]!r} are not looked at"
            hint = "; say which it is in inputs.*.modality" if modalities[name] == "unknown" else ""
            problems.append(Problem("warning", CONFIG, None, job.input_column(name), message + hint))
        if modalities[name] != "unknown":
            try:
                entry.augment.check_modality(modalities[name])
            except ValueError as error:
                problems.append(Problem("error", CONFIG, None, None, f"inputs.{name}.{error}"))
    return modalities, problems


def _read_split(job: Job, name: str, base: Path) -> tuple[Split | None, list[Problem]]:
    file = getattr(job.data, name)
    try:
        records = read_records(base / file, allow_outside=job.data.outside)
    except ManifestError as error:
        return None, [Problem("error", file, error.row, None, error.reason)]
    problems = []
    labels = job.needed_columns()
    if name == "unlabelled":
        records, labels = records.without(job.label_columns().values()), []
    grouping = [job.data.group] if name == "train" and job.data.group is not None else []
    for column in dict.fromkeys([*map(job.input_column, job.inputs), *labels, *grouping]):
        try:
            records.require([column])
        except ManifestError as error:
            problems.append(Problem("error", file, None, column, error.reason))
    fewest = 2 if name in ("train", "source") else 1
    if len(records) < fewest:
        message = f"the number of records is {len(records)}; {name} needs at least {fewest}"
        problems.append(Problem("error", file, None, None, message))
    return Split(name, file, records), problems


def _input_problems(job: Job, split: Split, modalities: Mapping[str, str]) -> Iterator[Problem]:
    columns = {name: job.input_column(name) for name in job.inputs}
    for row, record in enumerate(split.records.rows):
        if all(is_missing(record.get(column)) for column in columns.values()):
            message = f"every input is missing ({', '.join(columns.values())}); fill in at least one"
            yield split.problem("error", message, row=row)
        for column in dict.fromkeys(column for name, column in columns.items() if modalities[name] == "text"):
            if not (isinstance(record.get(column), str) or is_missing(record.get(column))):
                message = f"{record[column]!r} is a {type(record[column]).__name__}; write a text, in quotes"
                yield split.problem("error", message, column, row)
    for name, column in columns.items():
        if not split.has(column):
            continue
        if all(map(is_missing, split.values(column))):
            yield split.problem("warning", f"is empty in every record: the input {name} is always missing", column)
        for task_name, label_column in job.label_columns().items():
            if column == label_column:
                message = f"is the input {name} and the label of {task_name}; take another column for one of them"
                yield split.problem("error", message, column)
            elif split.has(label_column) and _equal(split, column, label_column):
                message = f"equals the label column {label_column!r} in every record that has both; the input {name}"
                yield split.problem("error", f"{message} would give the label of {task_name} away", column)


def _group_problems(column: str, splits: list[Split]) -> Iterator[Problem]:
    """Groups with records in train and in another table."""
    names = {split.name: _group_names(split, column) for split in splits}
    for split in splits:
        shared = names[split.name] & names.get("train", set())
        if split.name != "train" and shared:
            message = (
                f"{len(shared)} groups ({min(shared)!r}, ...) have records in train, too; its scores are optimistic"
            )
            yield split.problem("warning", message, column)


def _group_names(split: Split, column: str) -> set[str]:
    names = set()
    for cell in split.values(column) if split.has(column) else []:
        with suppress(UnreadableValueError):  # named where rows are held out by it
            names |= set() if is_missing(cell) else {class_label(cell)}
    return names


def _pair_problems(job: Job, splits: list[Split]) -> Iterator[Problem]:
    """Tables with too few records that have both inputs of a contrastive task."""
    for name, task in job.tasks.items():
        if task.kind.has_column:
            continue
        columns = [job.input_column(entry) for entry in job.task_inputs(name)]
        for split in splits:
            pairs = [tuple(row.get(column) for column in columns) for row in split.records.rows]
            try:
                task.kind.check_learnable(task.kind.count(pairs))
            except ValueError as error:
                message = f"{' and '.join(columns)}: {name} {error}"
                yield split.problem("error" if split.name == "train" else "warning", message)


def _choice_problems(job: Job, splits: list[Split]) -> Iterator[Problem]:
    """Validation records, held out where there is no table of them, that cannot choose the best weights."""
    tables = {split.name: split for split in splits}
    learned, chosen = learned_tables(transductive=is_transductive(tables))
    if learned not in tables or len(tables[learned].records) < 2:
        return
    beside = [tables["source"].records] if learned == "train" and "source" in tables else []
    records = tables[learned].records
    if chosen in tables:
        why = undefined(job, [records, *beside], tables[chosen].records)
        if why is not None and len(tables[chosen].records):
            yield tables[chosen].problem("error", why)
    elif getattr(job.data, chosen) is None and job.data.group in (None, *records.columns):
        try:
            hold_out(records, job, beside)
        except ConfigError as error:
            yield tables[learned].problem("error", str(error))
        except RecordError as error:  # of a group's cell
            reason = error.reason.removeprefix(f"{records.place(error.row, job.data.group)}: ")
            yield tables[learned].problem("error", reason, job.data.group, error.row)


def _equal(split: Split, column: str, label_column: str) -> bool:
    """True where two columns agree in every record that has both, with more than one value."""
    seen = set()
    for value, label in zip(split.values(column), split.values(label_column), strict=True):
        if not is_missing(value) and not is_missing(label):
            target = _comparable(label)
            if _comparable(value) != target:
                return False
            seen.add(target)
    return len(seen) > 1


def _comparable(cell: Any) -> tuple[str, ...] | None:
    """A cell's labels, whatever their order and case; None where it holds none."""
    try:
        return tuple(sorted(label.casefold() for label in label_set(cell)))
    except UnreadableValueError:
        return None
