"""What is wrong with label columns. Never imports torch."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from encoders.preprocessing import UnreadableValueError
from multimodal.check.problems import Problem, Split
from multimodal.config import Task
from multimodal.records import is_missing
from multimodal.targets import nearest_label, read_labels

LEARNED = ("train", "source")
"""Tables whose labels are those that a model knows."""


@dataclass(frozen=True)
class _Column:
    """A label column of one table: how many records have each label or number, and the cells that are neither."""

    split: Split
    name: str
    counts: Counter[Any] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)


def label_problems(task: Task, splits: list[Split]) -> Iterator[Problem]:
    """Cells that cannot be read, columns that nothing can be learned of, labels that train lacks or has once."""
    for name, column in task.label_columns().items():
        target = task.tasks[name]
        read = {split.name: _read(split, column, target.type) for split in splits if split.has(column)}
        learned = [read[split] for split in LEARNED if split in read]
        for labels in read.values():
            yield from labels.problems
            if target.zero_shot.labels is not None:
                continue  # it learns no classes from the table
            if labels is (learned[0] if learned else None):
                yield from _learning_problems(labels, _known(learned), name, target.type)
            elif labels.split.name not in LEARNED:
                yield from _evaluation_problems(labels, name, target.type, learned)


def _known(learned: Sequence[_Column]) -> Counter[Any]:
    """How many records have each label or number, of all tables that the tasks are learned from."""
    return sum((labels.counts for labels in learned), Counter())


def _read(split: Split, column: str, kind: str) -> _Column:
    labels = _Column(split, column)
    for row, value in enumerate(split.values(column)):
        try:
            labels.counts.update(read_labels(value, kind))
        except UnreadableValueError as error:
            labels.problems.append(split.problem("error", str(error), column, row))
    return labels


def _learning_problems(labels: _Column, known: Counter[Any], name: str, kind: str) -> Iterator[Problem]:
    """As the heads need them: two classes, one label of a set, two numbers."""
    fewest = 1 if kind == "multilabel" else 2
    if len(known) < fewest:
        found = ", ".join(map(repr, known)) or "none"
        what = "numbers" if kind == "regression" else "labels"
        message = f"has {len(known)} distinct {what} ({found}); {name} needs at least {fewest} to learn from"
        yield labels.split.problem("error", message, labels.name)
    if kind == "regression":
        return
    for label in sorted(label for label, count in known.items() if count == 1):
        message = f"a single training record has the label {label!r}; add records, or join it with another label"
        yield labels.split.problem("warning", message, labels.name)


def _evaluation_problems(labels: _Column, name: str, kind: str, learned: Sequence[_Column]) -> Iterator[Problem]:
    if all(map(is_missing, labels.split.values(labels.name))):
        message = f"is empty in every record; {name} is not evaluated here"
        yield labels.split.problem("warning", message, labels.name)
    if not learned or kind == "regression":
        return
    if kind == "embedding":  # labels that training lacks are what it is for
        if labels.counts and max(labels.counts.values()) < 2:
            message = f"has no label twice, so no record of it has another to find; {name} is not evaluated here"
            yield labels.split.problem("warning", message, labels.name)
        return
    known, files = _known(learned), " or ".join(column.split.file for column in learned)
    for label in sorted(labels.counts.keys() - known.keys()):
        count = labels.counts[label]
        near = nearest_label(label, known)
        hint = "" if near is None else f", or did you mean {near!r}?"
        message = (
            f"{count} record{'s have' if count > 1 else ' has'} the label {label!r}, which no record of "
            f"{files} has; it is counted as wrong{hint}"
        )
        yield labels.split.problem("warning", message, labels.name)
