"""Rows of a training table that validate where no other table does, and whether a metric is defined on them."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cache
from itertools import chain, islice

import numpy as np

from encoders.preprocessing import UnreadableValueError
from multimodal.config import ConfigError, Job
from multimodal.records import Records, class_label, is_missing
from multimodal.splits.groups import held_out_rows, record_groups
from multimodal.task_types import Need

SHARE = 10
"""Without a validation table, one row of train in so many is held out."""
TRIES = 20
"""Draws until some rows are said not to be there: each takes those first that the metric needs."""

LACKS: Mapping[Need, str] = {
    "known": "none has an answer",
    "labelled": "none has a label",
    "two": "fewer than two have both inputs",
    "different": "no two have different answers that training has",
    "alike": "no two have the same label",
}

LabelSet = frozenset[Hashable]


class TaskLabels:
    """A task's labels, read as they are asked for: what records hold that can be compared, None where it is not known.

    Args:
        records: rows of these.
        known: labels beside these count as none; None: all count.
    """

    def __init__(self, job: Job, name: str, records: Records, known: LabelSet | None = None) -> None:
        self.column, self.kind, self.records, self.known = job.task_column(name), job.tasks[name].kind, records, known
        self.inputs = [job.input_column(entry) for entry in job.task_inputs(name)]
        self.read = cache(self._read)

    def _read(self, row: int) -> LabelSet | None:
        record = self.records[row]
        values = [record.get(column) for column in ([self.column] if self.column is not None else self.inputs)]
        if any(map(is_missing, values)):
            return None
        try:
            labels = frozenset(self.kind.read_cell(values[0] if self.column is not None else tuple(values)))
        except UnreadableValueError:  # named where the record is read
            return None
        return labels if self.known is None else labels & self.known

    def witnesses(self, rows: Iterable[int], need: Need) -> list[int]:
        """The first rows that have together what is needed; none where all have not."""
        known = (row for row in rows if self.read(row) is not None)
        if need == "known":
            return list(islice(known, 1))
        if need == "labelled":
            return list(islice(filter(self.read, known), 1))
        seen: dict[LabelSet | None, int] = {}
        for row in known:
            earlier = seen.get(self.read(row)) if need == "alike" else next(iter(seen.values()), None)
            if earlier is not None and (need == "two" or (self.read(row) in seen) == (need == "alike")):
                return [earlier, row]
            seen.setdefault(self.read(row), row)
        return []


def metric_needs(job: Job) -> dict[str, tuple[str, Need]]:
    """Task -> metric and what that needs, of those that choose the best weights: one of them must be defined."""
    chosen, _, metric = job.train.metric.rpartition(".")
    named = {name: task.kind.main_metric for name, task in job.tasks.items()} if not chosen else {chosen: metric}
    return {name: (found, job.tasks[name].kind.metrics[found].need) for name, found in named.items()}


def undefined(job: Job, train: Sequence[Records], valid: Records) -> str | None:
    """Reason why no metric that chooses the best weights is defined on the records; None where one is, or none chooses.

    Args:
        train: tables that the tasks are learned from.
    """
    without = []
    if job.transfer.strategy == "none" or not all(_has_columns(job, records) for records in (*train, valid)):
        return None  # a column that is not there is named where the table is read
    for name, (metric, need) in metric_needs(job).items():
        known = _compared(job, name, metric, train)
        if TaskLabels(job, name, valid, known).witnesses(range(len(valid)), need):
            return None
        without.append(f"{name}.{metric} ({LACKS[need]})")
    other = [
        f"{name}.{metric}"
        for name, task in job.tasks.items()
        for metric, entry in task.kind.metrics.items()
        if entry.need == "known" and TaskLabels(job, name, valid).witnesses(range(len(valid)), "known")
    ]
    hint = f", or set train.metric, for example to {other[-1]}" if other else ""
    return (
        f"the {len(valid)} records of {valid.source} that choose the best weights do not define "
        f"{' or '.join(without)}; name a table in data.valid whose records do{hint}"
    )


def hold_out(records: Records, job: Job, beside: Sequence[Records] = ()) -> tuple[int, ...]:
    """Rows (from 0) that validate where there is no validation table: a tenth, drawn with the seed, by whole groups.

    Where these do not define the metric that chooses the best weights, or leave too little to learn from, others are
    drawn, again by the seed.

    Args:
        beside: other tables that the tasks are learned from.

    Raises:
        ConfigError: if all records are of one group, or no rows would do.
    """
    count, seed = len(records), job.train.seed
    cut = max(min(2, count - 1), count // SHARE)  # of one number alone there is no R2
    groups = record_groups(records, job.data.group)
    drawn = held_out_rows(count, cut, groups=groups, seed=seed)
    why = _unsuitable(job, records, beside, drawn)
    if why is None:
        return tuple(drawn)
    needs = list(metric_needs(job).items())
    for attempt in range(1, TRIES + 1):
        name, (_, need) = needs[attempt % len(needs)]
        order = np.random.default_rng([seed, attempt]).permutation(count).tolist()
        first = TaskLabels(job, name, records).witnesses(order, need)
        rows = held_out_rows(count, cut, groups=groups, seed=[seed, attempt], first=first)
        if _unsuitable(job, records, beside, rows) is None:
            return tuple(rows)
    if why:
        raise ConfigError(f"{why}; other records of {records.source} were tried, too")
    return tuple(drawn)


def _unsuitable(job: Job, records: Records, beside: Sequence[Records], rows: Sequence[int]) -> str | None:
    """Why rows cannot be held out; empty where what is left does not train, which the heads say better."""
    held = set(rows)
    rest = records.subset(row for row in range(len(records)) if row not in held)
    if not _has_columns(job, records) or not _trains(job, [records, *beside]):
        return None
    if not _trains(job, [rest, *beside]):
        return ""
    return undefined(job, [rest, *beside], records.subset(rows))


def _has_columns(job: Job, records: Records) -> bool:
    return {*job.label_columns().values(), *map(job.input_column, job.inputs)} <= {*records.columns}


def _trains(job: Job, tables: Sequence[Records]) -> bool:
    """Whether every task finds in the tables what its head needs."""
    joined = Records((), list(chain.from_iterable(table.rows for table in tables)), "")
    return all(
        task.zero_shot.labels is not None
        or TaskLabels(job, name, joined).witnesses(range(len(joined)), task.kind.learns_from)
        for name, task in job.tasks.items()
    )


def _compared(job: Job, name: str, metric: str, train: Sequence[Records]) -> LabelSet | None:
    """The labels that a metric compares with the others; None: all with each other."""
    if metric not in ("auc", "average_precision", "f1"):
        return None
    learned, task = _learned(job, name, train), job.tasks[name]
    if metric == "auc" or not task.kind.is_classification or len(learned) != 2:
        return learned
    return frozenset([max(learned) if task.positive is None else task.positive])  # type: ignore[type-var]


def _learned(job: Job, name: str, tables: Sequence[Records]) -> LabelSet:
    """The labels that the tables have."""
    given = job.tasks[name].zero_shot.labels
    if given is not None:
        return frozenset(map(class_label, given))
    found = (TaskLabels(job, name, table) for table in tables)
    return frozenset(label for one in found for row in range(len(one.records)) for label in one.read(row) or ())
