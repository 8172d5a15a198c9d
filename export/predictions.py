"""Predictions as files: one line of CSV, JSON or Parquet per record, embeddings as one array. Never imports torch."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from export.bundle import BUNDLE_FILE
from export.prediction_files import (
    WritingProgress,
    check_format,
    csv_line,
    finish,
    growing_file,
    json_line,
    npy_header,
)
from multimodal.inference.batching import LOOK_AHEAD, RecordResult, window_size
from multimodal.inference.tables import PredictionColumns
from multimodal.records import RecordError, Records, is_missing, read_records
from multimodal.runtime.files import naming, partial_path, refuse_overwriting, sha256_of

if TYPE_CHECKING:
    from export.predictor import Predictor


@dataclass(frozen=True)
class _Target:
    """Files that are written, and their content beside predictions."""

    table: Path
    """CSV, JSON Lines or Parquet."""
    vectors: Path | None
    """NumPy array."""
    output: str | None
    """Of the graph, that the vectors come from."""
    keep: tuple[str, ...]
    """Columns of the input table that are copied."""
    predictions: PredictionColumns

    @property
    def paths(self) -> list[Path]:
        return [self.table] if self.vectors is None else [self.table, self.vectors]


def write_predictions(
    predictor: "Predictor",
    data: Any,
    out: str | Path,
    *,
    keep: Sequence[str] = (),
    prefix: str = "predicted_",
    embeddings: str | Path | None = None,
    task: str | None = None,
    batch_size: int = 32,
    on_failure: Callable[[str], None] | None = None,
    root: str | Path | None = None,
    allow_outside: bool = False,
    resume: bool = False,
    advance: Callable[[int, int], None] | None = None,
) -> tuple[int, int]:
    """Writes the predictions of a table to a file, one line per record in the table's order, in constant memory.

    Columns: ``<task>`` and ``<task>_probability`` (regression: ``<task>`` alone; multilabel: labels joined by
    ``;`` and the smallest of their probabilities; embedding: none), and ``error``, empty where there are predictions.
    The file appears when it is complete; until then its lines are in ``.<name>.partial``.

    Args:
        data: a manifest's path, ``Records`` or a DataFrame.
        out: ``.csv``, ``.jsonl`` or ``.parquet``.
        keep: columns of the table that precede the predictions, as text; an identifier, for example.
        prefix: begins the columns of a task of which one is named like a column to keep.
        embeddings: takes vectors of length 1 as float32 ``[n d]`` (.npy), NaN for a record without predictions.
        task: whose vectors, as ``Bundle.vector_output`` chooses them.
        on_failure: is called with place and reason of each record without predictions.
        root, allow_outside: of the media, as ``read_records`` takes them.
        resume: continues where a killed process stopped, and keeps the partial files if this one fails; starts anew
            where there are none. With the same batch size the files are those of one process, to the byte.
        advance: is called after each batch with the numbers of records that are done, and of all.

    Returns:
        Number of records without predictions, and of all.

    Raises:
        ManifestError: if the table cannot be read.
        OverwriteError: if a file to write is the table, one of its media or the other one, or lies in the bundle.
        ResumeError: if the partial files are of another bundle, table, precision, embeddings or task.
        LookupError, ValueError: if the bundle has no such embeddings, as ``Bundle.vector_output`` raises them.
        ValueError: if the file has another suffix, a table that is no file should be resumed, or a column to keep is
            not in the table, is there twice or is named like a prediction with its prefix.
    """
    vectors = None if embeddings is None else Path(embeddings)
    check_format(Path(out))
    output = None if vectors is None else predictor.bundle.vector_output(task)
    predictions = PredictionColumns(predictor.decodings, taken=tuple(keep), prefix=prefix)
    target = _Target(Path(out), vectors, output, tuple(keep), predictions)
    if resume and not isinstance(data, str | Path):
        raise ValueError("only the predictions of a manifest can be resumed; give its path, or leave resume out")
    table = read_records(data, root=root, allow_outside=allow_outside, lazily=True)
    _check_kept(target.keep, table)
    _check_paths(target, predictor, data, table)
    sha256 = table.sha256 if isinstance(data, str | Path) else None
    progress = WritingProgress(target.table, _fingerprint(target, predictor, sha256))
    if resume:
        progress.restore()
    with ExitStack() as stack:
        files = [stack.enter_context(growing_file(path, progress, keep=resume)) for path in target.paths]
        writer = _Writer(predictor, target, files, progress, table)
        # from the begin of a window: the batches in it are those of a process that was not interrupted
        past = progress.rows % window_size(batch_size, LOOK_AHEAD) if progress.rows < len(table) else 0
        begin = progress.rows - past
        batches = predictor.predict_batches(
            table.after(begin), batch_size=batch_size, on_error="return", look_ahead=LOOK_AHEAD
        )
        results = islice(chain.from_iterable(batches), progress.rows - begin, None)
        while batch := list(islice(results, batch_size)):
            writer.write(batch, on_failure)
            if advance is not None:
                advance(progress.rows, len(table))
        writer.close()
    if vectors is not None:
        with naming(vectors):
            partial_path(vectors).replace(vectors)
    finish(target.table, {**dict.fromkeys(keep, "string"), **predictions.types})
    progress.forget()
    return progress.failed, progress.rows


class _Writer:
    """Appends batches of predictions to the file of lines and to that of vectors."""

    def __init__(
        self,
        predictor: "Predictor",
        target: _Target,
        files: Sequence[BinaryIO],
        progress: WritingProgress,
        table: Records,
    ) -> None:
        self.predictions, self.target, self.progress = target.predictions, target, progress
        self.dim = 0 if target.output is None else predictor.output_dim(target.output)
        self.columns = {name: entry.column for name, entry in predictor.inputs.items()}
        self.names = [*target.keep, *self.predictions.names]
        self.is_csv = target.table.suffix.lower() == ".csv"
        self.files, self.lines, self.vectors = files, files[0], files[1:]
        self.table = table
        self.kept = iter(table.after(progress.rows).rows) if target.keep else repeat({})
        if progress.rows == 0:
            if self.is_csv:
                _append(self.lines, csv_line(self.names))
            for file in self.vectors:
                _append(file, npy_header(0, self.dim))

    def write(self, batch: Sequence[RecordResult], on_failure: Callable[[str], None] | None = None) -> None:
        """Appends the batch that follows those which are written."""
        failed = 0
        for number, (result, row) in enumerate(zip(batch, self.kept, strict=False), self.progress.rows):
            _append(self.lines, self._line([_text(row.get(name)) for name in self.target.keep], result))
            if isinstance(result, RecordError):
                failed += 1
                if on_failure is not None:
                    column = None if result.input is None else self.columns[result.input]
                    on_failure(f"{self.table.place(number, column)}: {result.reason}")
        for file in self.vectors:
            vectors = [_vector(result, self.target.output, self.dim) for result in batch]
            _append(file, np.stack(vectors).astype("<f4").tobytes())
        self.progress.note(len(batch), failed, self.files)

    def _line(self, kept: Sequence[str | None], result: RecordResult) -> bytes:
        if self.is_csv:
            return csv_line([*(cell or "" for cell in kept), *self.predictions.cells(result)])
        return json_line(self.names, [*kept, *self.predictions.values(result)])

    def close(self) -> None:
        """Writes the final number of rows into the array's header; every header has the same length."""
        for file in self.vectors:
            file.seek(0)
            _append(file, npy_header(self.progress.rows, self.dim))


def _append(file: BinaryIO, content: bytes) -> None:
    with naming(Path(file.name)):
        file.write(content)


def _check_paths(target: _Target, predictor: "Predictor", data: Any, table: Records) -> None:
    read: list[tuple[str, str | Path]] = [("the bundle", predictor.bundle.folder)]
    read += [("the table", data)] if isinstance(data, str | Path) else []
    columns = [entry.column for entry in predictor.inputs.values()]
    for option, path in zip(("--out", "--embeddings"), target.paths, strict=False):
        refuse_overwriting(option, path, read, table.media(columns))
    if target.vectors is not None:
        refuse_overwriting("--embeddings", target.vectors, [("--out", target.table)])


def _check_kept(keep: Sequence[str], table: Records) -> None:
    for name in keep:
        if name not in table.columns:
            raise ValueError(f"{name!r} cannot be kept: {table.source} has the columns {', '.join(table.columns)}")
        if keep.count(name) > 1:
            raise ValueError(f"{name!r} cannot be kept twice; give it once")


def _text(cell: Any) -> str | None:
    return None if is_missing(cell) else str(cell)


def _fingerprint(target: _Target, predictor: "Predictor", table: str | None) -> dict[str, Any]:
    """Everything that a process which resumes must have in common with the first one.

    Args:
        table: sha256 of its file; None for what is no file.
    """
    return {
        "bundle": sha256_of(predictor.bundle.folder / BUNDLE_FILE),
        "table": table,
        "precision": predictor.precision,
        "embeddings": None if target.vectors is None else target.vectors.name,
        "task": target.output,
        "keep": [*target.keep, *target.predictions.names],
    }


def _vector(result: RecordResult, output: str | None, dim: int) -> np.ndarray:
    vector = None if output is None or isinstance(result, RecordError) else result[output].embedding
    return np.full(dim, np.nan, np.float32) if vector is None else vector
