"""Rows of a training table that validate where no other table does, and whether a metric is defined on them."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cache
from itertools import chain, islice
from typing import Literal

import numpy as np

from encoders.preprocessing import UnreadableValueError
from multimodal.config import ConfigError, Task
from multimodal.config.tasks import METRICS
from multimodal.records.groups import held_out_rows, record_groups
from multimodal.records.records import Records, class_label, is_missing
from multimodal.records.targets import read_labels

SHARE = 10
"""Without a validation table, one row of train in so many is held out."""
TRIES = 20
"""Draws until some rows are said not to be there: each takes those first that the metric needs."""

Need = Literal["known", "labelled", "two", "different", "alike"]
"""What records must have for a metric: an answer, a label, two answers, two different ones, two equal ones."""
NEEDS: Mapping[tuple[str, str], Need] = {
    ("classification", "auc"): "different",
    **{("multilabel", metric): "labelled" for metric in ("macro_f1", "micro_f1")},
    ("multilabel", "auc"): "different",
    ("regression", "r2"): "different",
    ("contrastive", "top1"): "two",
    **{("embedding", metric): "alike" for metric in METRICS["embedding"]},
}
"""Task type and metric -> that; the others need an answer."""
MAIN = {"classification": "accuracy", "multilabel": "macro_f1", "regression": "r2", "contrastive": "top1"} | {
    "embedding": "map"
}
"""Task type -> what ``train.metric: mean`` takes of it."""
LEARNING: Mapping[str, Need] = {
    "classification": "different",
    "multilabel": "labelled",
    "regression": "different",
    "contrastive": "two",
    "embedding": "different",
}
"""Task type -> what its head needs of the records that train."""
LACKS: Mapping[Need, str] = {
    "known": "none has an answer",
    "labelled": "none has a label",
    "two": "fewer than two have both inputs",
    "different": "no two have different answers that training has",
    "alike": "no two have the same label",
}

Answer = frozenset[Hashable]


class Answers:
    """A task's answers, read as they are asked for: what records hold that can be compared, None where it is not known.

    Args:
        records: rows of these.
        known: answers beside these count as none; None: all count.
    """

    def __init__(self, task: Task, name: str, records: Records, known: Answer | None = None) -> None:
        self.column, self.kind, self.records, self.known = task.task_column(name), task.tasks[name].type, records, known
        self.inputs = [task.input_column(entry) for entry in task.task_inputs(name)]
        self.read = cache(self._read)

    def _read(self, row: int) -> Answer | None:
        record = self.records[row]
        if self.column is None:
            return None if any(is_missing(record.get(column)) for column in self.inputs) else frozenset(["both"])
        value = record.get(self.column)
        try:
            answer = None if is_missing(value) else frozenset(read_labels(value, self.kind))
        except UnreadableValueError:  # named where the record is read
            return None
        return answer if answer is None or self.known is None else answer & self.known

    def witnesses(self, rows: Iterable[int], need: Need) -> list[int]:
        """The first rows that have together what is needed; none where all have not."""
        known = (row for row in rows if self.read(row) is not None)
        if need == "known":
            return list(islice(known, 1))
        if need == "labelled":
            return list(islice(filter(self.read, known), 1))
        seen: dict[Answer | None, int] = {}
        for row in known:
            earlier = seen.get(self.read(row)) if need == "alike" else next(iter(seen.values()), None)
            if earlier is not None and (need == "two" or (self.read(row) in seen) == (need == "alike")):
                return [earlier, row]
            seen.setdefault(self.read(row), row)
        return []


def metric_needs(task: Task) -> dict[str, tuple[str, Need]]:
    """Task -> metric and what that needs, of those that choose the best weights: one of them must be defined."""
    chosen, _, metric = task.train.metric.rpartition(".")
    named = {name: MAIN[target.type] for name, target in task.tasks.items()} if not chosen else {chosen: metric}
    return {name: (found, NEEDS.get((task.tasks[name].type, found), "known")) for name, found in named.items()}


def undefined(task: Task, train: Sequence[Records], valid: Records) -> str | None:
    """Why no metric that chooses the best weights is defined on the records; None where one is, or nothing is chosen.

    Args:
        train: tables that the tasks are learned from.
    """
    lacking = []
    if task.transfer.strategy == "none" or not all(_has_columns(task, records) for records in (*train, valid)):
        return None  # a column that is not there is named where the table is read
    for name, (metric, need) in metric_needs(task).items():
        known = _learned(task, name, train) if metric == "auc" else None
        if Answers(task, name, valid, known).witnesses(range(len(valid)), need):
            return None
        lacking.append(f"{name}.{metric} ({LACKS[need]})")
    other = [
        f"{name}.{metric}"
        for name in task.tasks
        for metric in METRICS[task.tasks[name].type]
        if (task.tasks[name].type, metric) not in NEEDS
        and Answers(task, name, valid).witnesses(range(len(valid)), "known")
    ]
    hint = f", or set train.metric, for example to {other[-1]}" if other else ""
    return (
        f"the {len(valid)} records of {valid.source} that choose the best weights do not define "
        f"{' or '.join(lacking)}; name a table in data.valid whose records do{hint}"
    )


def hold_out(records: Records, task: Task, beside: Sequence[Records] = ()) -> tuple[int, ...]:
    """Rows (from 0) that validate where there is no validation table: a tenth, drawn with the seed, by whole groups.

    Where these do not define the metric that chooses the best weights, or leave too little to learn from, others are
    drawn, again by the seed.

    Args:
        beside: other tables that the tasks are learned from.

    Raises:
        ConfigError: if all records are of one group, or no rows would do.
    """
    count, seed = len(records), task.train.seed
    cut = max(min(2, count - 1), count // SHARE)  # of one number alone there is no R2
    groups = record_groups(records, task.data.group)
    drawn = held_out_rows(count, cut, groups=groups, seed=seed)
    why = _unsuitable(task, records, beside, drawn)
    if why is None:
        return tuple(drawn)
    needs = list(metric_needs(task).items())
    for attempt in range(1, TRIES + 1):
        name, (_, need) = needs[attempt % len(needs)]
        order = np.random.default_rng([seed, attempt]).permutation(count).tolist()
        first = Answers(task, name, records).witnesses(order, need)
        rows = held_out_rows(count, cut, groups=groups, seed=[seed, attempt], first=first)
        if _unsuitable(task, records, beside, rows) is None:
            return tuple(rows)
    if why:
        raise ConfigError(f"{why}; other records of {records.source} were tried, too")
    return tuple(drawn)


def _unsuitable(task: Task, records: Records, beside: Sequence[Records], rows: Sequence[int]) -> str | None:
    """Why rows cannot be held out; empty where what is left does not train, which the heads say better."""
    held = set(rows)
    rest = records.subset(row for row in range(len(records)) if row not in held)
    if not _has_columns(task, records) or not _trains(task, [records, *beside]):
        return None
    if not _trains(task, [rest, *beside]):
        return ""
    return undefined(task, [rest, *beside], records.subset(rows))


def _has_columns(task: Task, records: Records) -> bool:
    return {*task.label_columns().values(), *map(task.input_column, task.inputs)} <= {*records.columns}


def _trains(task: Task, tables: Sequence[Records]) -> bool:
    """Whether every task finds in the tables what its head needs."""
    joined = Records((), list(chain.from_iterable(table.rows for table in tables)), "")
    return all(
        target.zero_shot.labels is not None
        or Answers(task, name, joined).witnesses(range(len(joined)), LEARNING[target.type])
        for name, target in task.tasks.items()
    )


def _learned(task: Task, name: str, tables: Sequence[Records]) -> Answer:
    """The labels that the tables have."""
    given = task.tasks[name].zero_shot.labels
    if given is not None:
        return frozenset(map(class_label, given))
    found = (Answers(task, name, table) for table in tables)
    return frozenset(
        label for answers in found for row in range(len(answers.records)) for label in answers.read(row) or ()
    )
