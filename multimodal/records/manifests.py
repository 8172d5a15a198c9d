"""Manifest files: CSV, TSV, JSON Lines and Parquet as column names and rows. Never imports torch."""

import codecs
import csv
import gzip
import hashlib
import io
import json
import re
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath
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

    The suffix is ``.csv``, ``.tsv``, ``.jsonl`` (or ``.ndjson``), any of these with ``.gz``, or ``.parquet``. CSV is
    UTF-8, or UTF-16 with a byte order mark, and has a header; its cells stay text, and blank lines are no records.
    Cells are separated by the first of comma, tab and semicolon that the header holds, in ``.tsv`` by tabs. JSON Lines
    has one object per line.

    Raises:
        ManifestError: if the file cannot be read or is not a table; names the row or the line.
        ModuleNotFoundError: if it is Parquet and pyarrow is not installed.
    """
    name = PurePath(path.name.lower())
    packed = name.suffix == ".gz" and name.with_suffix("").suffix in (".csv", ".tsv", ".jsonl", ".ndjson")
    reader = _reader(path, name.with_suffix("").suffix if packed else name.suffix)
    try:
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        return reader(gzip.decompress(content) if packed else content, path.name), sha256
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ManifestError(path.name, f"cannot be decompressed ({error}); copy it again") from error
    except OSError as error:
        reason = f"{path} cannot be read ({error.strerror or error}); give the path of a manifest"
        raise ManifestError(path.name, reason) from error


def _reader(path: Path, suffix: str) -> Callable[[bytes, str], Table]:
    """Takes the content of a manifest, and its name."""
    readers: dict[str, Callable[[bytes, str], Table]] = {
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".jsonl": _read_json_lines,
        ".ndjson": _read_json_lines,
        ".parquet": _read_parquet,
    }
    if not path.exists() and any(re.fullmatch("[a-z][a-z0-9+.-]+:", part) for part in path.parts):
        raise ManifestError(path.name, "is named by an address; download the file, and give its path")
    if path.is_dir():
        raise ManifestError(path.name, f"is a folder; {_FOLDER}")
    if suffix not in readers:
        way = next((way for suffixes, way in _WAYS.items() if suffix in suffixes), f"there are {', '.join(readers)}")
        raise ManifestError(path.name, f"the suffix {path.suffix!r} is not that of a manifest; {way}")
    return readers[suffix]


_FOLDER = (
    "name a table in it; for a folder of each class, write one: a header `image,label`, then a line for each file with "
    "its path and its folder's name"
)
_WAYS = {
    (".xlsx", ".xls", ".ods"): "save the sheet as CSV, or in Python give pandas.read_excel(...)",
    (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar"): "unpack it, and name the table in it (.csv.gz is read as it is)",
    (".json",): "write one object per line, as .jsonl (from pandas: to_json(..., orient='records', lines=True))",
    (".txt", ".dat", ""): "call it .csv or .tsv if it is one",
    (".feather", ".arrow", ".pkl", ".pickle", ".h5", ".orc"): "read it with pandas, and give the DataFrame",
}
"""Suffixes -> what to do with such a file."""


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
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = "UTF-16, as its first bytes say" if is_utf16 else f"UTF-8 (byte {content[error.start]:#04x})"
        raise ManifestError(name, f"line {line} is not {what}; save the file as UTF-8") from error
    return text


_HEADER = re.compile(r"""\s*((?:"[^"]*"|[^"\r\n])*)""")
_cell_limit = threading.Lock()


def _separator(name: str, text: str) -> str:
    """The separator of a table's cells."""
    if name.lower().removesuffix(".gz").endswith(".tsv"):
        return "\t"
    header = _HEADER.match(text)
    names = re.sub('"[^"]*"', "", header[0]) if header else ""
    return next((separator for separator in ",\t;" if separator in names), ",")


def _csv_lines(name: str, text: str, separator: str) -> list[tuple[int, list[str]]]:
    """Number of the last line of each row that is not blank, and its cells."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    with _cell_limit:
        before = csv.field_size_limit(len(text) + 1)  # the process's, 131,072 characters: a long text is no fault
        try:
            return [(reader.line_num, cells) for cells in reader if cells]
        except csv.Error as error:
            reason = f"line {reader.line_num} is not CSV ({error}); quote its cells, or save the table as JSON Lines"
            raise ManifestError(name, reason) from error
        finally:
            csv.field_size_limit(before)


def _read_csv(content: bytes, name: str) -> Table:
    text = _decoded(content, name)
    separator = _separator(name, text)
    lines = _csv_lines(name, text, separator)
    if not lines:
        raise ManifestError(name, "is empty; its first line must name the columns")
    if any("\0" in column for column in lines[0][1]):
        raise ManifestError(name, "begins with NUL characters, as UTF-16 does; save the file as UTF-8")
    columns = check_columns(name, lines[0][1])
    named = {",": "comma", "\t": "tab", ";": "semicolon"}[separator]
    rows = []
    for row, (line, cells) in enumerate(lines[1:], 1):
        if len(cells) != len(columns):
            reason = (
                f"has {len(cells)} cells where the header has {len(columns)} (it ends in line {line}); "
                f"put quotes around cells that hold a {named} or a line break"
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
