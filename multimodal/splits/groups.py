"""Records that belong together, and rows that are held out without splitting a group. Never imports torch."""

from collections.abc import Sequence

import numpy as np

from encoders.preprocessing import UnreadableValueError
from multimodal.config import ConfigError
from multimodal.records import RecordError, Records, class_label, is_missing


def record_groups(records: Records, column: str | None) -> np.ndarray | None:
    """Number of each record's group, int [n]; None where no column says what belongs together.

    A record whose cell is missing is a group of its own.

    >>> from multimodal.records.records import read_records
    >>> record_groups(read_records([{"product": "a"}, {"product": ""}, {"product": "a"}]), "product").tolist()
    [0, 1, 0]

    Raises:
        ManifestError: if there is no such column.
        RecordError: for a cell that is not a single value.
    """
    if column is None:
        return None
    records.require([column])
    numbers: dict[str | int, int] = {}
    found = []
    for row, record in enumerate(records.rows):
        cell = record.get(column)
        try:
            name = row if is_missing(cell) else class_label(cell)  # a row's number is no text, so equals no name
        except UnreadableValueError as error:
            raise RecordError(row, None, f"{records.place(row, column)}: {error}") from error
        found.append(numbers.setdefault(name, len(numbers)))
    return np.array(found, dtype=np.int64)


def held_out_rows(
    count: int, cut: int, *, groups: np.ndarray | None, seed: int | Sequence[int], first: Sequence[int] = ()
) -> list[int]:
    """Rows (from 0) to hold out, in order: ``cut`` of them, or whole groups of at most about as many.

    Groups larger than ``cut`` are held out only where there are no smaller ones.

    Args:
        groups: of each record, int [n]; None takes each record by itself.
        first: rows that are held out before any other is drawn, with their groups.

    >>> held_out_rows(6, 2, groups=np.array([0, 0, 1, 1, 2, 2]), seed=0) in ([0, 1], [2, 3], [4, 5])
    True

    Raises:
        ConfigError: if all records are of one group.
    """
    shuffled = np.random.default_rng(seed).permutation(count)
    if groups is None:
        return sorted([*first, *(row for row in shuffled.tolist() if row not in first)][:cut])
    sizes, wanted = np.bincount(groups), {int(groups[row]) for row in first}
    order = sorted(
        dict.fromkeys(groups[shuffled].tolist()),
        key=lambda group: (group not in wanted, max(int(sizes[group]) - cut, 0)),
    )
    if len(order) < 2:
        raise ConfigError(
            f"data.group: all {count} training records are of one group, so that none can be held out; name another "
            "column, or a table in data.valid"
        )
    chosen: list[int] = []
    for group in order[:-1]:  # one group at least stays to train on
        held = int(sizes[chosen].sum())
        if group in wanted or held < min(2, cut) or held + sizes[group] <= cut:
            chosen.append(group)
    return np.flatnonzero(np.isin(groups, chosen)).tolist()
