"""Tables of records, and readers of their inputs. Never imports torch."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from encoders.preprocessing import Arrays, Preprocessor, UnreadableValueError
from multimodal.records.cells import is_missing, plain_cells
from multimodal.records.manifests import Manifest, ManifestError, check_columns, read_manifest, union_of_keys
from multimodal.records.media import Outside, media_path, quote


class RecordError(ValueError):
    """A record that cannot be used, and why.

    >>> print(RecordError(16, "image", "'a.jpg' does not exist"))
    record 16 (counted from 0), image: 'a.jpg' does not exist
    """

    def __init__(self, row: int, input: str | None, reason: str) -> None:
        super().__init__(row, input, reason)
        self.row = row
        """Counts from 0."""
        self.input = input
        """The input (or task) whose cell it is; None where it is the record as a whole."""
        self.reason = reason

    @property
    def detail(self) -> str:
        """Reason with its input, for a place that already tells the record.

        >>> RecordError(16, "image", "'a.jpg' does not exist").detail
        "image: 'a.jpg' does not exist"
        """
        return self.reason if self.input is None else f"{self.input}: {self.reason}"

    def __str__(self) -> str:
        place = f"record {self.row} (counted from 0)"
        return f"{place}: {self.reason}" if self.input is None else f"{place}, {self.input}: {self.reason}"


@dataclass(frozen=True)
class Records:
    """A table: one dict per record, with raw values.

    >>> records = read_records([{"image": "a.jpg", "price": 2}, {"text": "red"}])
    >>> records.columns, len(records), records.place(1, "text")
    (('image', 'price', 'text'), 2, 'records, row 2, column text')
    """

    columns: tuple[str, ...]
    rows: Sequence[dict[str, Any]]
    """An absent key is a missing value."""
    source: str
    """The manifest's file name, "DataFrame" or "records"."""
    root: Path | None = None
    """Folder that media paths start from; None: the working directory, and any file may be named."""
    allow_outside: Outside = False
    """Permits media outside ``root``; "links": only those behind a link."""
    numbers: Sequence[int] | None = None
    """In a subset: row of each record in the whole table, from 0."""
    sha256: str | None = None
    """Of the manifest's content, whatever was left out since; None for Python objects."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.rows[row]

    def number(self, row: int) -> int:
        """Row of a record in the whole table, from 0."""
        return row if self.numbers is None else self.numbers[row]

    def place(self, row: int, column: str | None = None) -> str:
        """Name of a record in messages; ``row`` counts from 0, the name from 1."""
        place = f"{self.source}, row {self.number(row) + 1}"
        return place if column is None else f"{place}, column {column}"

    def subset(self, rows: Iterable[int]) -> "Records":
        """The records in ``rows``, in that order; ``place`` still names their rows in the whole table."""
        rows = [int(row) for row in rows]
        return replace(self, rows=[self.rows[row] for row in rows], numbers=[self.number(row) for row in rows])

    def after(self, count: int) -> "Records":
        """The records behind the first ``count``; a file's are read when they are iterated."""
        numbers = range(count, len(self)) if self.numbers is None else self.numbers[count:]
        return replace(self, rows=self.rows[count:], numbers=numbers)

    def without(self, columns: Iterable[str]) -> "Records":
        """The records without these columns."""
        dropped = set(columns)
        rows = [{key: value for key, value in row.items() if key not in dropped} for row in self.rows]
        return replace(self, columns=tuple(name for name in self.columns if name not in dropped), rows=rows)

    def media(self, columns: Iterable[str]) -> Iterator[Path]:
        """Paths in these columns, of existing files or not."""
        for row in self.rows:
            for value in map(row.get, columns):
                if isinstance(value, str | Path):
                    yield Path(value) if self.root is None else self.root / value

    def require(self, columns: Iterable[str]) -> None:
        """Raises a ManifestError for the first of these columns that is missing."""
        for column in columns:
            if column not in self.columns:
                near = difflib.get_close_matches(column, self.columns, n=1)
                hint = f"did you mean {near[0]!r}? There" if near else "there"
                raise ManifestError(
                    self.source, f"has no column {column!r}; {hint} are {', '.join(self.columns) or 'none at all'}"
                )


def is_table(source: Any) -> bool:
    """True for a manifest's path, ``Records``, and the tables of pandas, polars and Arrow.

    >>> is_table("train.csv"), is_table([{"text": "red"}])
    (True, False)
    """
    return isinstance(source, str | Path | Records) or _columns_and_rows(source) is not None


_LIBRARIES = (("columns", "to_dicts", ()), ("column_names", "to_pylist", ()), ("columns", "to_dict", ("records",)))
"""Of polars, Arrow and pandas: attribute with the columns, method that gives rows, its arguments."""


def _columns_and_rows(source: Any) -> tuple[list[Any], Callable[[], list[dict[str, Any]]]] | None:
    """Columns and rows of a table of another library, which is not imported; None if it is none."""
    for columns, rows, arguments in _LIBRARIES:
        if hasattr(source, rows) and hasattr(source, columns):
            return list(getattr(source, columns)), partial(getattr(source, rows), *arguments)
    return None


def read_records(
    source: Any, *, root: str | Path | None = None, allow_outside: Outside = False, lazily: bool = False
) -> Records:
    """Reads a table of records.

    Args:
        source: path of a CSV, TSV, JSON Lines or Parquet file, a DataFrame (pandas, polars), an Arrow table, a
            sequence of dicts, or ``Records``.
        root: folder of the media; None: the manifest's, or for Python objects the working directory, without limits.
        allow_outside: permits media outside that folder, or only links that lead outside ("links").
        lazily: checks a file, but reads its rows whenever they are iterated, and keeps none.

    >>> read_records([{"text": "red"}]).columns
    ('text',)

    Raises:
        ManifestError: if it is not a table of records; names the row.
        TypeError: if ``source`` is something else.
    """
    if isinstance(source, Records):
        return source
    folder = None if root is None else Path(root)
    if isinstance(source, str | Path):
        path = Path(source)
        root = path.parent if folder is None else folder
        if lazily and path.is_file():  # a pipe can be read only once
            manifest = Manifest.open(path)
            return Records(manifest.columns, manifest, path.name, root, allow_outside, sha256=manifest.sha256)
        (columns, rows), sha256 = read_manifest(path)
        return Records(columns, rows, path.name, root, allow_outside, sha256=sha256)
    if (table := _columns_and_rows(source)) is not None:
        columns, rows = check_columns("DataFrame", table[0]), list(map(plain_cells, table[1]()))
        return Records(columns, rows, "DataFrame", folder, allow_outside)
    if not isinstance(source, Iterable) or isinstance(source, Mapping | bytes):
        raise TypeError(
            f"records are a {type(source).__name__}; give a manifest's path, a DataFrame or a list of dicts, one "
            "dict per record"
        )
    rows = []
    for number, row in enumerate(source, 1):
        if not isinstance(row, Mapping):
            raise TypeError(f"records, row {number} is a {type(row).__name__}; give one dict per record")
        rows.append(plain_cells(row))
    return Records(check_columns("records", union_of_keys(rows)), rows, "records", folder, allow_outside)


@dataclass(frozen=True)
class InputReader:
    """Reader of one input: finds its value in a record and preprocesses it.

    A str is a path where ``preprocessor.reads_paths`` says so. A preprocessor without that attribute reads
    paths if its modality is "image" or "audio". Text is never a path.
    """

    name: str
    column: str
    preprocessor: Preprocessor

    def read(
        self,
        row: Mapping[str, Any],
        root: Path | None = None,
        allow_outside: Outside = False,
        augment: Callable[[Any], Any] | None = None,
    ) -> tuple[Arrays, bool]:
        """Arrays of this input, and its presence; blank arrays where it is missing.

        Args:
            augment: raw -> raw, before the preprocessor.

        Raises:
            UnreadableValueError: if the value is given but cannot be used.
        """
        value = row.get(self.column)
        if is_missing(value):
            return self.preprocessor.blank(), False
        if not (isinstance(value, str | Path) and self.reads_paths):
            return self.preprocessor(value if augment is None else augment(value)), True
        path = media_path(value, root, allow_outside=allow_outside)
        try:
            return self.preprocessor(path if augment is None else augment(path)), True
        except UnreadableValueError as error:
            reason = str(error).removeprefix(f"{path}: ")  # quote the path as written
            raise UnreadableValueError(f"{quote(value)}: {reason}") from error

    @property
    def reads_paths(self) -> bool:
        """True where a str is the path of a file."""
        modality = self.preprocessor.modality
        reads_paths = getattr(self.preprocessor, "reads_paths", modality in ("image", "audio"))
        return bool(reads_paths) and modality != "text"


def stack_inputs(
    readers: Mapping[str, InputReader], samples: Sequence[Mapping[str, tuple[Arrays, bool]]]
) -> dict[str, Arrays]:
    """Batches samples: input -> arrays with a batch axis, and ``present``, bool [b]."""
    stacked = {}
    for name, reader in readers.items():
        arrays = reader.preprocessor.stack([sample[name][0] for sample in samples])
        stacked[name] = {**arrays, "present": np.array([sample[name][1] for sample in samples], dtype=bool)}
    return stacked
