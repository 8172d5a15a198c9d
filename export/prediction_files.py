"""Files that grow batch by batch, and that a killed process leaves behind to be resumed. Never imports torch."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from multimodal.runtime.files import naming, partial_path, replacing

FORMATS = (".csv", ".jsonl", ".parquet")
_ROWS_PER_GROUP = 10_000  # of a Parquet file


class ResumeError(ValueError):
    """Partial files of another bundle, table or setting."""


class WritingProgress:
    """Progress of a file of predictions: ``.<name>.progress.json`` beside it, written after each batch.

    Args:
        job: what must be the same for a later process to resume: bundle, data, precision, outputs.
    """

    def __init__(self, out: Path, job: Mapping[str, Any]) -> None:
        self.path, self.job = out.with_name(f".{out.name}.progress.json"), dict(job)
        self.rows = self.failed = 0
        self.sizes: dict[str, int] = {}
        """File -> bytes of it that hold whole batches."""

    def restore(self) -> None:
        """Reads the progress of an earlier process, if there is any.

        Raises:
            ResumeError: if it was another job, or cannot be read.
        """
        if not self.path.is_file():
            return
        try:
            noted = json.loads(self.path.read_text(encoding="utf-8"))
            job, state = dict(noted["job"]), (int(noted["rows"]), int(noted["failed"]), dict(noted["sizes"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ResumeError(f"{self.path} is damaged ({error!r}); run without resuming, from the start") from error
        if job != self.job:
            changed = ", ".join(key for key in self.job if job.get(key) != self.job[key])
            raise ResumeError(f"{self.path} was begun with another {changed}; run it as before, or without resuming")
        self.rows, self.failed, self.sizes = state
        for name, size in self.sizes.items():
            part = self.path.with_name(name)
            if not part.is_file() or part.stat().st_size < size:
                raise ResumeError(f"{part} misses lines that {self.path} counts; run without resuming, from the start")

    def note(self, rows: int, failed: int, files: Sequence[BinaryIO]) -> None:
        """Counts another batch that is written."""
        self.rows, self.failed = self.rows + rows, self.failed + failed
        for file in files:
            with naming(Path(file.name)):
                file.flush()
        sizes = {Path(file.name).name: file.tell() for file in files}
        content = {"job": self.job, "rows": self.rows, "failed": self.failed, "sizes": sizes}
        with replacing(self.path) as beside:  # without fsync, which per batch would take long
            beside.write_text(json.dumps(content), encoding="utf-8")

    def forget(self) -> None:
        """Removes the file of progress."""
        self.path.unlink(missing_ok=True)


@contextmanager
def growing_file(path: Path, progress: WritingProgress, *, keep: bool) -> Iterator[BinaryIO]:
    """File ``.<name>.partial`` beside ``path``, at the end of what ``progress`` counts; makes its folder.

    It stays if the process is killed or interrupted; after an error only with ``keep``.
    """
    partial = partial_path(path)
    size = progress.sizes.get(partial.name, 0)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = partial.open("r+b" if size else "w+b")
    try:
        try:
            file.truncate(size)
            file.seek(size)
            yield file
        finally:
            with naming(path):
                file.close()
    except Exception:
        if not keep:
            partial.unlink(missing_ok=True)
            progress.forget()
        raise


def finish(path: Path, columns: Mapping[str, str]) -> None:
    """Gives the complete file its name, converted to Parquet where that is asked for.

    Args:
        columns: name -> "string" or "double".
    """
    partial = partial_path(path)
    if path.suffix.lower() != ".parquet":
        with naming(path):
            partial.replace(path)
        return
    table = partial.with_suffix(".table")
    try:
        with naming(path):
            _to_parquet(partial, table, columns)
            table.replace(path)
    finally:
        table.unlink(missing_ok=True)
    partial.unlink()  # last: on a full disk the lines stay, to be resumed


def check_format(path: Path) -> None:
    """Checks that the suffix names a format, and that it can be written here.

    Raises:
        ValueError: if it does not.
        ModuleNotFoundError: if it is Parquet and pyarrow is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"predictions cannot be written to {path.name}; give a name that ends in {', '.join(FORMATS)}")
    if suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ModuleNotFoundError as error:
            line = "pyarrow is not installed; run: pip install 'multimodal-transfer[parquet]'"
            raise ModuleNotFoundError(line, name="pyarrow") from error


def npy_header(rows: int, dim: int) -> bytes:
    """Header of a float32 array ``[rows dim]``; equally long for every number of rows."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)})
    return header.getvalue()


def csv_line(cells: Sequence[str]) -> bytes:
    """One line of CSV."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue().encode("utf-8", "backslashreplace")


def json_line(columns: Sequence[str], cells: Sequence[Any]) -> bytes:
    """One line of JSON Lines, which Parquet is converted from."""
    row = dict(zip(columns, cells, strict=True))
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _to_parquet(lines: Path, out: Path, columns: Mapping[str, str]) -> None:
    import pyarrow
    import pyarrow.parquet

    kinds = {"string": pyarrow.string(), "double": pyarrow.float64()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
    with lines.open(encoding="utf-8") as file, pyarrow.parquet.ParquetWriter(out, schema) as to:
        while group := [json.loads(line) for line in islice(file, _ROWS_PER_GROUP)]:
            to.write_table(pyarrow.Table.from_pylist(group, schema))
