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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import Any, BinaryIO, overload

from multimodal.records.cells import plain_cells

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


@dataclass(frozen=True)
class Manifest(Sequence[dict[str, Any]]):
    """Rows of a manifest file, which are read from it whenever they are iterated, and not kept.

    The suffix is ``.csv``, ``.tsv``, ``.jsonl`` (or ``.ndjson``), any of these with ``.gz``, or ``.parquet``. CSV is
    UTF-8, or UTF-16 with a byte order mark, and has a header; its cells stay text, and blank lines are no records.
    Cells are separated by the first of comma, tab and semicolon that the header holds, in ``.tsv`` by tabs. JSON Lines
    has one object per line.
    """

    path: Path
    columns: tuple[str, ...]
    """In order of appearance; an absent key of a row is a missing value."""
    sha256: str
    """Of the file."""
    total: int
    """Rows of the file."""
    start: int = 0
    """Rows that are left out, at the begin."""

    @classmethod
    def open(cls, path: Path) -> "Manifest":
        """Reads a file once, and checks all of it.

        Raises:
            ManifestError: if it cannot be read or is not a table; names the row or the line.
            ModuleNotFoundError: if it is Parquet and pyarrow is not installed.
        """
        found = _Found()
        count = sum(1 for _ in _rows(path, found))
        return cls(path, found.columns, found.sha256, count)

    def __len__(self) -> int:
        return self.total - self.start

    def __iter__(self) -> Iterator[dict[str, Any]]:
        found = _Found()
        yield from islice(_rows(self.path, found), self.start, None)
        if found.sha256 != self.sha256:
            raise ManifestError(self.path.name, "has changed while it was read; begin again")

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[dict[str, Any]]: ...

    def __getitem__(self, place: int | slice) -> dict[str, Any] | Sequence[dict[str, Any]]:
        if isinstance(place, int):
            return next(islice(self, range(len(self))[place], None))
        chosen = range(len(self))[place]
        if chosen.step == 1 and chosen.stop == len(self):
            return replace(self, start=self.start + chosen.start)
        return [self[number] for number in chosen]


def read_manifest(path: Path) -> tuple[Table, str]:
    """Reads a manifest whole, and the sha256 of its content, at once; as ``Manifest.open``."""
    found = _Found()
    rows = list(_rows(path, found))
    return (found.columns, rows), found.sha256


@dataclass
class _Found:
    """What is known of a file once all of its rows are read."""

    columns: tuple[str, ...] = ()
    sha256: str = ""


class _Filled(io.RawIOBase):
    """A file of which every read but the last is as long as it was asked for, so that ``peek`` sees the begin."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self.file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


class _Hashed(_Filled):
    """A file whose content is hashed while it is read, once."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.sha256 = hashlib.sha256()

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        self.sha256.update(buffer[:count])
        return count


def _rows(path: Path, found: _Found) -> Iterator[dict[str, Any]]:
    """Every row; fills ``found`` at the end."""
    name = PurePath(path.name.lower())
    packed = name.suffix == ".gz" and name.with_suffix("").suffix in (".csv", ".tsv", ".jsonl", ".ndjson")
    reader = _reader(path, name.with_suffix("").suffix if packed else name.suffix)
    keys: dict[str, None] = {}
    try:
        with path.open("rb") as file:
            hashed = _Hashed(file)
            # a gzip file may have many members, of one byte even
            unpacked = _Filled(gzip.GzipFile(fileobj=hashed)) if packed else hashed
            try:
                columns, rows = reader(io.BufferedReader(unpacked, 1 << 16), path.name)
                for row in rows:
                    if columns is None:
                        keys.update(dict.fromkeys(row))
                    yield row
            except ManifestError:
                while unpacked.file.read(1 << 20):
                    pass  # if it was packed and is damaged, that is the reason, and is raised at its end
                raise
            while hashed.read(1 << 20):
                pass  # what is behind the last row
        found.columns = check_columns(path.name, list(keys)) if columns is None else columns
        found.sha256 = hashed.sha256.hexdigest()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ManifestError(path.name, f"cannot be decompressed ({error}); copy it again") from error
    except OSError as error:
        reason = f"{path} cannot be read ({error.strerror or error}); give the path of a manifest"
        raise ManifestError(path.name, reason) from error


Reader = Callable[[Any, str], tuple[tuple[str, ...] | None, Iterator[dict[str, Any]]]]
"""Takes a binary file and its name; gives its columns, None where they are the keys of all rows, and its rows."""


def _reader(path: Path, suffix: str) -> Reader:
    readers: dict[str, Reader] = {
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


def _lines(file: Any, name: str, newline: str) -> Iterator[str]:
    """Lines of a text with their ends; ``newline`` is that of ``open``."""
    is_utf16 = file.peek(2).startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    number = 1
    try:
        for line in io.TextIOWrapper(file, "utf-16" if is_utf16 else "utf-8-sig", newline=newline):
            yield line
            number += 1
    except UnicodeDecodeError as error:  # its object begins in the first line that was not complete
        number += error.object.count(b"\n", 0, error.start)
        what = "UTF-16, as its first bytes say" if is_utf16 else f"UTF-8 (byte {error.object[error.start]:#04x})"
        raise ManifestError(name, f"line {number} is not {what}; save the file as UTF-8") from error


_LINES_AT_A_TIME = 1000
_BUFFER = 1 << 20  # bytes of a column of Parquet, which else is read by whole row groups
_LONGEST_CELL = 2**31 - 1  # characters; a C long
_HEADER = re.compile(r"""\s*((?:"[^"]*"|[^"\r\n])*)""")
_cell_limit = threading.Lock()


def _separator(name: str, text: str) -> str:
    """The separator of a table's cells."""
    if name.lower().removesuffix(".gz").endswith(".tsv"):
        return "\t"
    header = _HEADER.match(text)
    names = re.sub('"[^"]*"', "", header[0]) if header else ""
    return next((separator for separator in ",\t;" if separator in names), ",")


def _header_lines(lines: Iterator[str]) -> list[str]:
    """Lines up to the end of the first that is not blank; a name in quotes may span several."""
    head, in_quotes = [], False
    for line in lines:
        head.append(line)
        in_quotes ^= line.count('"') % 2 == 1
        if line.strip() and not in_quotes:
            break
    return head


def _csv_lines(name: str, text: Iterable[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Number of the last line of each row that is not blank, and its cells."""
    reader = csv.reader(text, delimiter=separator, strict=True)
    while True:
        with _cell_limit:
            before = csv.field_size_limit(_LONGEST_CELL)  # the process's, 131,072 characters: a long text is no fault
            try:
                lines = [(reader.line_num, cells) for cells in islice(reader, _LINES_AT_A_TIME)]
            except csv.Error as error:
                line = reader.line_num
                reason = f"line {line} is not CSV ({error}); quote its cells, or save the table as JSON Lines"
                raise ManifestError(name, reason) from error
            finally:
                csv.field_size_limit(before)
        if not lines:
            return
        yield from ((line, cells) for line, cells in lines if cells)


def _read_csv(file: Any, name: str) -> tuple[tuple[str, ...], Iterator[dict[str, Any]]]:
    text = _lines(file, name, "")
    head = _header_lines(text)
    separator = _separator(name, "".join(head))
    lines = _csv_lines(name, chain(head, text), separator)
    header = next(lines, None)
    if header is None:
        raise ManifestError(name, "is empty; its first line must name the columns")
    if any("\0" in column for column in header[1]):
        raise ManifestError(name, "begins with NUL characters, as UTF-16 does; save the file as UTF-8")
    columns = check_columns(name, header[1])
    named = {",": "comma", "\t": "tab", ";": "semicolon"}[separator]

    def rows() -> Iterator[dict[str, Any]]:
        for row, (line, cells) in enumerate(lines, 1):
            if len(cells) != len(columns):
                reason = (
                    f"has {len(cells)} cells where the header has {len(columns)} (it ends in line {line}); "
                    f"put quotes around cells that hold a {named} or a line break"
                )
                raise ManifestError(name, reason, row)
            yield dict(zip(columns, cells, strict=True))

    return columns, rows()


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"the key {twice[0]!r} occurs twice")
    return dict(pairs)


def _read_json_lines(file: Any, name: str) -> tuple[None, Iterator[dict[str, Any]]]:
    return None, _json_rows(_lines(file, name, "\n"), name)


def _json_rows(lines: Iterable[str], name: str) -> Iterator[dict[str, Any]]:
    for line, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text.removesuffix("\n"), object_pairs_hook=_distinct_keys)
        except (ValueError, RecursionError) as error:
            reason = f"line {line} is not JSON ({error}); write one object per line"
            raise ManifestError(name, reason) from error
        if not isinstance(row, dict):
            reason = f"line {line} holds a {type(row).__name__}, not an object; write one object per line"
            raise ManifestError(name, reason)
        yield plain_cells(row)


def _read_parquet(file: Any, name: str) -> tuple[tuple[str, ...], Iterator[dict[str, Any]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        line = "pyarrow is not installed; run: pip install 'multimodal-transfer[parquet]'"
        raise ModuleNotFoundError(line, name="pyarrow") from error

    @contextmanager
    def named() -> Iterator[None]:
        try:
            yield
        except (pyarrow.ArrowException, UnicodeDecodeError, OverflowError) as error:
            reason = f"is not a Parquet file that can be read ({error}); write it again"
            raise ManifestError(name, reason) from error

    with named():
        table = pyarrow.parquet.ParquetFile(
            file.raw.file, buffer_size=_BUFFER
        )  # beside the hash: it is not read in order
        columns = check_columns(name, table.schema_arrow.names)

    def rows() -> Iterator[dict[str, Any]]:
        with named():
            for batch in table.iter_batches(_LINES_AT_A_TIME):
                yield from map(plain_cells, batch.to_pylist())
        file.raw.file.seek(0)

    return columns, rows()
