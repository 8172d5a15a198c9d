"""Manifest files: CSV, JSON Lines and Parquet as column names and rows. Never imports torch."""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Table = tuple[tuple[str, ...], list[dict[str, Any]]]
"""Column names in order, and one dict per record; an absent key is a missing value."""


class ManifestError(ValueError):
    """A table of records that cannot be read.

    >>> print(ManifestError("train.csv", "has 5 cells where the header has 6", row=17))
    train.csv, row 17: has 5 cells where the header has 6
    """

    def __init__(self, source: str, reason: str, row: int | None = None) -> None:
        super().__init__(source, reason, row)
        self.source = source
        """The file's name, or "DataFrame" or "records"."""
        self.reason = reason
        self.row = row
        """Counts from 1, the first record; None where it is the file as a whole."""

    def __str__(self) -> str:
        place = self.source if self.row is None else f"{self.source}, row {self.row}"
        return f"{place}: {self.reason}"


def read_manifest(path: Path) -> tuple[Table, str]:
    """Reads a manifest, and the sha256 of its content, at once.

    The suffix is ``.csv``, ``.jsonl`` (or ``.ndjson``) or ``.parquet``. CSV is UTF-8 with or without a byte order mark,
    comma-separated, with a header; its cells stay text, and blank lines are no records. JSON Lines has one object per
    line.

    Raises:
        ManifestError: if the file cannot be read or is not a table; names the row or the line.
        ModuleNotFoundError: if it is Parquet and pyarrow is not installed.
    """
    readers: dict[str, Callable[[bytes, str], Table]] = {
        ".csv": _read_csv,
        ".jsonl": _read_json_lines,
        ".ndjson": _read_json_lines,
        ".parquet": _read_parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        kinds = ", ".join(readers)
        raise ManifestError(path.name, f"the suffix {path.suffix!r} is not that of a manifest; there are {kinds}")
    try:
        content = path.read_bytes()
        return reader(content, path.name), hashlib.sha256(content).hexdigest()
    except OSError as error:
        reason = f"{path} cannot be read ({error.strerror or error}); give the path of a manifest"
        raise ManifestError(path.name, reason) from error


def check_columns(source: str, columns: Sequence[Any]) -> tuple[str, ...]:
    """The column names, or a ManifestError if they are not distinct, non-empty text."""
    for number, column in enumerate(columns, 1):
        if not isinstance(column, str):
            raise ManifestError(source, f"column {number} is named {column!r}, which is not text; give it a name")
        if not column.strip():
            # the index column that pandas writes by default
            hint = "name it or leave it out (from pandas: to_csv(..., index=False))"
            raise ManifestError(source, f"column {number} has an empty name; {hint}")
    twice = [column for column, count in Counter(columns).items() if count > 1]
    if twice:
        raise ManifestError(source, f"more than one column is named {twice[0]!r}; rename or remove all but one")
    return tuple(columns)


def union_of_keys(rows: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    """Every key of every row, in order of appearance.

    >>> union_of_keys([{"image": "a.jpg"}, {"text": "red"}])
    ('image', 'text')
    """
    return tuple(dict.fromkeys(key for row in rows for key in row))


def _decoded(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        reason = f"line {line} is not UTF-8 (byte {content[error.start]:#04x}); save the file as UTF-8"
        raise ManifestError(name, reason) from error


def _read_csv(content: bytes, name: str) -> Table:
    reader = csv.reader(io.StringIO(_decoded(content, name), newline=""), strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        reason = f"line {reader.line_num} is not CSV ({error}); quote its cells, or save the table as JSON Lines"
        raise ManifestError(name, reason) from error
    if not lines:
        raise ManifestError(name, "is empty; its first line must name the columns")
    header = lines[0][1]
    if len(header) == 1 and any(separator in header[0] for separator in ";\t"):
        raise ManifestError(name, f"has the one column {header[0]!r}; separate columns with commas")
    columns = check_columns(name, header)
    rows = []
    for row, (line, cells) in enumerate(lines[1:], 1):
        if len(cells) != len(columns):
            reason = (
                f"has {len(cells)} cells where the header has {len(columns)} (it ends in line {line}); "
                "put quotes around cells that hold a comma or a line break"
            )
            raise ManifestError(name, reason, row)
        rows.append(dict(zip(columns, cells, strict=True)))
    return columns, rows


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"the key {twice[0]!r} occurs twice")
    return dict(pairs)


def _read_json_lines(content: bytes, name: str) -> Table:
    rows = []
    for line, text in enumerate(_decoded(content, name).split("\n"), 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text, object_pairs_hook=_distinct_keys)
        except (ValueError, RecursionError) as error:
            reason = f"line {line} is not JSON ({error}); write one object per line"
            raise ManifestError(name, reason) from error
        if not isinstance(row, dict):
            reason = f"line {line} holds a {type(row).__name__}, not an object; write one object per line"
            raise ManifestError(name, reason)
        rows.append(row)
    return check_columns(name, union_of_keys(rows)), rows


def _read_parquet(content: bytes, name: str) -> Table:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        line = "pyarrow is not installed; run: pip install 'multimodal-transfer[parquet]'"
        raise ModuleNotFoundError(line, name="pyarrow") from error
    try:
        with pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content)) as file:
            columns = check_columns(name, file.schema_arrow.names)
            return columns, file.read().to_pylist()
    except pyarrow.ArrowException as error:
        reason = f"is not a Parquet file that can be read ({error}); write it again"
        raise ManifestError(name, reason) from error
