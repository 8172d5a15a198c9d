"""Sources of records, and reading the inputs of one. Never imports torch."""

import difflib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from encoders.preprocessing import Arrays, UnreadableValueError
from multimodal.records import InputReader, ManifestError, RecordError, Records, is_table, read_records
from multimodal.records.cells import plain_cells
from multimodal.records.media import Outside

logger = logging.getLogger(__name__)

Sample = dict[str, tuple[Arrays, bool]]
"""Input -> its arrays, and True if the record has it."""


@dataclass(frozen=True)
class RecordSource:
    """Rows, and the readers of their inputs."""

    rows: Iterable[Any]
    readers: Mapping[str, InputReader]
    root: Path | None
    allow_outside: Outside
    strict_keys: bool
    """True if an unknown key is an error; a manifest has further columns, such as labels."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Input -> the manifest's column, whose name a dict without the input's own may have for it, too."""

    def read(self, number: int, row: Any) -> Sample | RecordError:
        """Arrays of one record, or the reason why it cannot be used."""
        if not isinstance(row, Mapping):
            return RecordError(number, None, f"is a {type(row).__name__}; give one dict per record")
        if self.strict_keys:
            for key in row:
                if key not in self.readers:
                    return RecordError(number, None, f"has the key {key!r}, which is no input; {self._hint(key)}")
        row = plain_cells(row)
        if self.columns:
            row, problem = self._by_input(row)
            if problem:
                return RecordError(number, None, problem)
        sample: Sample = {}
        for name, reader in self.readers.items():
            try:
                sample[name] = reader.read(row, self.root, self.allow_outside)
            except UnreadableValueError as error:
                return RecordError(number, name, str(error))
        if not any(present for _, present in sample.values()):
            columns = " or ".join(reader.column for reader in self.readers.values())
            return RecordError(number, None, f"every input is missing; give at least {columns}")
        return sample

    def _by_input(self, row: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
        """The values of the inputs, and what is wrong where a key is probably a misspelt one."""
        keys = {name: name if name in row else column for name, column in self.columns.items()}
        others = {str(key).casefold(): key for key in row if key not in keys.values()}
        for name, key in keys.items():
            near = [] if key in row else difflib.get_close_matches(name.casefold(), others, n=1)
            if near:
                hint = f"did you mean {name!r}? Else give {name!r}: None"
                return {}, f"has the key {others[near[0]]!r}, which is no input; {hint}"
        return {name: row[key] for name, key in keys.items() if key in row}, None

    def _hint(self, key: Any) -> str:
        near = difflib.get_close_matches(str(key), self.readers, n=1)
        return f"did you mean {near[0]!r}?" if near else f"the inputs are {', '.join(self.readers)}"


def open_source(
    records: Any, readers: Mapping[str, InputReader], allow_outside: Outside = False, *, strict_keys: bool = False
) -> RecordSource:
    """Source of dicts with inputs or their columns as keys, or of a manifest (path, ``Records``, DataFrame).

    Further keys are ignored, as further columns are, but where one is probably a misspelt input.

    Args:
        readers: input -> what reads its column of a manifest.
        allow_outside: as ``read_records`` takes it.
        strict_keys: rejects dicts with keys that are no inputs.

    Raises:
        ManifestError: if a manifest has none of the inputs' columns, or misspells one.
        TypeError: if ``records`` is something else.
    """
    if not is_table(records):
        if not isinstance(records, Iterable) or isinstance(records, Mapping | bytes):
            raise TypeError(
                f"records are a {type(records).__name__}; give a list of dicts, one per record, or a manifest"
            )
        by_name = {name: replace(reader, column=name) for name, reader in readers.items()}
        columns = {} if strict_keys else {name: reader.column for name, reader in readers.items()}
        return RecordSource(records, by_name, None, True, strict_keys=strict_keys, columns=columns)
    table = read_records(records, allow_outside=allow_outside)
    check_manifest(table, {name: reader.column for name, reader in readers.items()})
    return RecordSource(table.rows, readers, table.root, table.allow_outside, strict_keys=False)


def check_manifest(table: Records, columns: Mapping[str, str]) -> None:
    """Checks that a table has columns of the inputs; one without its column is missing in every record.

    Args:
        columns: input -> column.

    Raises:
        ManifestError: if the table has none of them, or a misspelt one.
    """
    absent = {name: column for name, column in columns.items() if column not in table.columns}
    others = {column.casefold(): column for column in table.columns if column not in columns.values()}
    for column in absent.values():
        near = difflib.get_close_matches(column.casefold(), others, n=1, cutoff=0.8)  # "txt" for "text"
        if near:
            raise ManifestError(
                table.source,
                f"has no column {column!r} but {others[near[0]]!r}; rename it, or add an empty column {column!r} if "
                "that input is missing in every record",
            )
    if absent and len(absent) == len(columns) and len(table):
        raise ManifestError(
            table.source,
            f"has none of the columns {', '.join(columns.values())}; it has {', '.join(table.columns)}",
        )
    for name, column in absent.items():
        logger.warning("%s has no column %r: the input %s is missing in every record", table.source, column, name)
