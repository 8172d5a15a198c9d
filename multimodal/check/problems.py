"""Problems that `multimodal check` finds, and the tables that it reads. Never imports torch."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from multimodal.records import Records

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """One line of the report: an error keeps the job from training or evaluation, a warning does not.

    >>> Problem("error", "train.csv", 17, "image", "'a.jpg' does not exist").row
    17
    """

    severity: Severity
    file: str
    """The manifest as the config writes it, or "config" for the job's description itself."""
    row: int | None
    """Counts from 1, the first record; None where it is the table or the column as a whole."""
    column: str | None
    message: str
    kind: str = field(default="", compare=False)
    """Kinds of problems of one column are listed and cut separately."""


@dataclass(frozen=True)
class Split:
    """One of a job's tables."""

    name: str
    """Its key in ``data``."""
    file: str
    """Its path in the config."""
    records: Records

    def has(self, column: str) -> bool:
        """True where the table has the column, and a record."""
        return column in self.records.columns and len(self.records) > 0

    def values(self, column: str) -> list[Any]:
        """Cells of a column; None where absent."""
        return [row.get(column) for row in self.records.rows]

    def problem(
        self, severity: Severity, message: str, column: str | None = None, row: int | None = None, *, kind: str = ""
    ) -> Problem:
        """A problem of this table; ``row`` counts from 0 here."""
        return Problem(severity, self.file, None if row is None else row + 1, column, message, kind)


def first_of_each(problems: Sequence[Problem], most: int) -> Iterator[Problem]:
    """The first problems of each kind and column, then the number of the others.

    >>> column = [Problem("error", "train.csv", row, "image", "does not exist") for row in (1, 2, 3, 4)]
    >>> [(problem.row, problem.message) for problem in first_of_each(column, 2)]
    [(1, 'does not exist'), (2, 'does not exist'), (None, 'and 2 more of this column; --all shows them')]
    """

    def place(problem: Problem) -> tuple[Severity, str, str | None, str]:
        return problem.severity, problem.file, problem.column, problem.kind

    counts, seen = Counter(map(place, problems)), Counter[tuple[Severity, str, str | None, str]]()
    for problem in problems:
        seen[place(problem)] += 1
        rest = counts[place(problem)] - most
        if rest <= 1 or seen[place(problem)] <= most:
            yield problem
        elif seen[place(problem)] == most + 1:
            whose = "this table" if problem.column is None else "this column"
            message = f"and {rest} more of {whose}; --all shows them"
            yield Problem(problem.severity, problem.file, None, problem.column, message)
