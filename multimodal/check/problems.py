"""What `multimodal check` finds, and the tables that it looks at. Never imports torch."""

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Split:
    """One of a job's tables."""

    name: str
    """Its key in ``data``."""
    file: str
    """As the config writes it."""
    records: Records

    def has(self, column: str) -> bool:
        """Whether there is such a column, and a record."""
        return column in self.records.columns and len(self.records) > 0

    def values(self, column: str) -> list[Any]:
        """The cells of a column; None where a record lacks it."""
        return [row.get(column) for row in self.records.rows]

    def problem(self, severity: Severity, message: str, column: str | None = None, row: int | None = None) -> Problem:
        """A problem of this table; ``row`` counts from 0 here."""
        return Problem(severity, self.file, None if row is None else row + 1, column, message)
