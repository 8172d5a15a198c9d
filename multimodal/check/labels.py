"""Checks of label columns. Never imports torch."""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from encoders.preprocessing import UnreadableValueError
from multimodal.check.problems import Problem, Split
from multimodal.config import Job
from multimodal.records import class_label, is_missing
from multimodal.records.media import quote
from multimodal.records.spellings import look_alikes, nearest_labels, told_apart
from multimodal.task_types import TaskType

LEARNED = ("train", "source")
"""Tables whose labels are those that a model knows."""
HELD_OUT = "held_out"
"""Records of train that validate: written by the same hands, so their spellings count as train's."""
FOREIGN_SEPARATORS = ",|/\t"


@dataclass(frozen=True)
class _Column:
    """A label column of one table: how many records have each label or number, and the cells that are neither."""

    split: Split
    name: str
    counts: Counter[Any] = field(default_factory=Counter)
    decomposed: Counter[str] = field(default_factory=Counter)
    """Of these, how many write the label in Unicode's decomposed form, as files from a Mac do."""
    problems: list[Problem] = field(default_factory=list)


def label_problems(job: Job, splits: Sequence[Split]) -> Iterator[Problem]:
    """Cells that cannot be read, columns without enough labels, labels missing from train, single, or spelled
    in several ways."""
    for name, column in job.label_columns().items():
        task = job.tasks[name]
        read = {split.name: _read(split, column, task.kind) for split in splits if split.has(column)}
        learned = [read[split] for split in LEARNED if split in read]
        given = task.zero_shot.labels  # then it learns no classes from the table
        known = _known(learned) if given is None else Counter(given)
        source = f"record of {' or '.join(labels.split.file for labels in learned)}"
        source = source if given is None else f"label of tasks.{name}.zero_shot"
        written = [labels for split, labels in read.items() if split in (*LEARNED, HELD_OUT)]
        for labels in read.values():
            yield from labels.problems
            if given is None and labels is (learned[0] if learned else None):
                yield from _learning_problems(labels, written, task.kind)
            elif labels.split.name not in LEARNED:
                yield from _evaluation_problems(labels, name, task.kind, known, source)


def _known(learned: Sequence[_Column]) -> Counter[Any]:
    return sum((labels.counts for labels in learned), Counter())


def _read(split: Split, column: str, kind: TaskType) -> _Column:
    labels = _Column(split, column)
    for row, value in enumerate(split.values(column)):
        try:
            labels.counts.update(kind.read_cell(value))
            labels.decomposed.update(_decomposed(value, kind))
        except UnreadableValueError as error:
            labels.problems.append(split.problem("error", str(error), column, row))
    return labels


def _decomposed(value: Any, kind: TaskType) -> list[str]:
    """The labels of a cell that ``class_label`` composes."""
    if not isinstance(value, str | list | tuple | set | frozenset):
        return []
    parts = value.split(";") if isinstance(value, str) and kind.has_several_labels else value
    texts = [parts] if isinstance(parts, str) else [part for part in parts if isinstance(part, str)]
    return [class_label(text) for text in texts if not unicodedata.is_normalized("NFC", text)]


def _learning_problems(labels: _Column, written: Sequence[_Column], kind: TaskType) -> Iterator[Problem]:
    """Too few classes, labels or numbers for the head; then labels that are probably mistakes.

    Args:
        written: all columns that train, or validate in the place of records of train.
    """
    known = _known(written)
    try:
        kind.check_learnable(known)
    except ValueError as error:
        yield labels.split.problem("error", str(error), labels.name)
    if not kind.has_labels:
        return
    yield from _form_problems(labels, known, sum((column.decomposed for column in written), Counter()))
    yield from _spelling_problems(labels, known)
    yield from _separator_problems(labels, known, kind)


def _form_problems(labels: _Column, known: Counter[str], decomposed: Counter[str]) -> Iterator[Problem]:
    for label, count in sorted(decomposed.items()):
        if count < known[label]:
            composed, other = told_apart(label, unicodedata.normalize("NFD", label))
            message = (
                f"{composed} ({_records(known[label] - count)}) and {other} ({_records(count)}) are one label here"
            )
            message += ": the same characters to Unicode, composed and decomposed"
            yield labels.split.problem("warning", message, labels.name, kind="form")


def _spelling_problems(labels: _Column, known: Counter[str]) -> Iterator[Problem]:
    """Labels that read the same, then those of a single record, first the ones that are near a frequent label."""
    alike = look_alikes(known)
    for group in alike:
        counts = [_records(known[label]) for label in group]
        first, *others = (f"{quoted} ({count})" for quoted, count in zip(told_apart(*group), counts, strict=True))
        message = (
            f"{first} reads the same as {' and '.join(others)}, but they are labels of their own; write them alike"
        )
        yield labels.split.problem("warning", message, labels.name, kind="spelling")
    reported = {label for group in alike for label in group}
    single = sorted(label for label, count in known.items() if count == 1 and label not in reported)
    near = nearest_labels(single, [label for label, count in known.items() if count > 1])
    for label in sorted(single, key=lambda label: label not in near):
        message, kind = f"a single training record has the label {label!r}", "single"
        if label in near:
            kind = "near"
            message += f", and {_have(known[near[label]])} {near[label]!r}: if that was meant, correct the cell"
        else:
            message += "; add records, or join it with another label"
        yield labels.split.problem("warning", message, labels.name, kind=kind)


def _records(count: int) -> str:
    return f"{count} record{'s' * (count != 1)}"


def _have(count: int) -> str:
    return f"{count} have" if count != 1 else "1 has"


def _separator_problems(labels: _Column, known: Counter[str], kind: TaskType) -> Iterator[Problem]:
    """Labels that are probably several: nothing separates them but ``;``, and nothing does in a classification."""
    if kind.has_several_labels:
        signs, hint = FOREIGN_SEPARATORS, "the labels of a record are separated by ';' alone"
    else:
        signs, hint = ";", "for several labels per record set type: multilabel"
    lists = [label for label in known if label[:1] + label[-1:] in ("[]", "{}")]
    for sign in signs:
        joined = [label for label in known if sign in label and label not in lists]
        if joined:
            what = f"{len(joined)} label{'s hold' if len(joined) > 1 else ' holds'} {sign!r}"
            yield _joined_problem(labels, joined, known, what, hint)
    if lists:
        yield _joined_problem(labels, lists, known, "a list that is written as text is one label", hint)


def _joined_problem(labels: _Column, joined: Sequence[str], known: Counter[str], what: str, hint: str) -> Problem:
    count = sum(known[label] for label in joined)
    message = f"{what}, such as {quote(joined[0])} ({_records(count)} in all); {hint}"
    return labels.split.problem("warning", message, labels.name, kind="separator")


def _evaluation_problems(
    labels: _Column, name: str, kind: TaskType, known: Counter[Any], source: str
) -> Iterator[Problem]:
    if all(map(is_missing, labels.split.values(labels.name))):
        message = f"is empty in every record; {name} is not evaluated here"
        yield labels.split.problem("warning", message, labels.name)
    if not known or not kind.has_labels:
        return
    if kind.is_open:  # made for labels that training has not seen
        if labels.counts and max(labels.counts.values()) < 2:
            message = f"has no label twice, so no record of it has another to find; {name} is not evaluated here"
            yield labels.split.problem("warning", message, labels.name)
        return
    unseen = sorted(labels.counts.keys() - known.keys())
    near = nearest_labels(unseen, known)
    for label in sorted(unseen, key=lambda label: label not in near):
        quoted, *meant = told_apart(label, near[label]) if label in near else [quote(label)]
        hint = f", or did you mean {meant[0]}?" if meant else ""
        count = labels.counts[label]
        message = (
            f"{_records(count)} {'has' if count == 1 else 'have'} the label {quoted}, which no {source} has; it is "
            f"counted as wrong{hint}"
        )
        yield labels.split.problem("warning", message, labels.name)
