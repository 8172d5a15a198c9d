"""Answers as files: one line of CSV, JSON or Parquet a record, and embeddings as one array. Never imports torch."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from export.batching import LOOK_AHEAD, RecordResult
from export.bundle import BUNDLE_FILE
from export.prediction_files import (
    WritingProgress,
    check_format,
    csv_line,
    finish,
    growing_file,
    json_line,
    npy_header,
    partial_path,
)
from multimodal.decoding import Prediction
from multimodal.records import RecordError, Records, is_missing, read_records
from multimodal.runtime.files import naming, refuse_overwriting, sha256_of

if TYPE_CHECKING:
    from export.predictor import Predictor


def write_predictions(
    predictor: "Predictor",
    data: Any,
    out: str | Path,
    *,
    keep: Sequence[str] = (),
    embeddings: str | Path | None = None,
    task: str | None = None,
    batch_size: int = 32,
    on_failure: Callable[[str], None] | None = None,
    root: str | Path | None = None,
    allow_outside: bool = False,
    resume: bool = False,
    advance: Callable[[int, int], None] | None = None,
) -> tuple[int, int]:
    """Answers a table into a file with one line a record, in the table's order; arrays never pile up.

    Columns: ``<task>`` and ``<task>_probability`` (regression: ``<task>`` alone; multilabel: labels joined by
    ``;`` and the smallest of their probabilities; embedding: none), and ``error``, empty where the record was
    answered. The file appears when it is complete; until then its answers are in ``.<name>.partial``.

    Args:
        data: a manifest's path, ``Records`` or a DataFrame.
        out: ``.csv``, ``.jsonl`` or ``.parquet``.
        keep: columns of the table that come before the answers, as text; an identifier, say.
        embeddings: takes vectors of length 1 as float32 ``[n d]`` (.npy), NaN where a record was not answered.
        task: whose vectors, as ``vector_output`` chooses them.
        on_failure: is told of each record that was not answered: where, and why.
        root, allow_outside: of the media, as ``read_records`` takes them.
        resume: goes on where a killed process stopped, and keeps what there is if this one fails; starts where
            there is nothing to go on with.
        advance: is told after each batch how many records are done, and how many there are.

    Returns:
        How many records were not answered, and how many there are.

    Raises:
        ManifestError: if the table cannot be read.
        OverwriteError: if a file of answers is the table, one of its media or the other one, or lies in the bundle.
        ResumeError: if the answers were begun with another bundle, table, precision, embeddings or task.
        LookupError, ValueError: if embeddings are asked of a bundle without them, as ``vector_output`` raises them.
        ValueError: if the file has another suffix, a table that is no file shall be resumed, or a column to keep is
            not in the table or called like one of the answers.
    """
    out, vectors = Path(out), None if embeddings is None else Path(embeddings)
    check_format(out)
    output = None if vectors is None else predictor.bundle.vector_output(task)
    if resume and not isinstance(data, str | Path):
        raise ValueError("only the answers to a manifest can be resumed; give the path of one, or leave resume out")
    table = read_records(data, root=root, allow_outside=allow_outside)
    _check_kept(keep, table, prediction_columns(predictor.tasks))
    _check_outputs(predictor, data, table, out, vectors)
    progress = WritingProgress(out, {**_job(predictor, data, vectors, output), "keep": list(keep)})
    if resume:
        progress.restore()
    with ExitStack() as stack:
        files = [
            stack.enter_context(growing_file(path, progress, keep=resume))
            for path in (out, vectors)
            if path is not None
        ]
        writer = _Writer(predictor, out, files, progress, output, keep)
        rest = table.subset(range(progress.rows, len(table))) if progress.rows else table
        batches = predictor.predict_batches(rest, batch_size=batch_size, on_error="return", look_ahead=LOOK_AHEAD)
        for batch in batches:
            writer.write(batch, rest, on_failure)
            if advance is not None:
                advance(progress.rows, len(table))
        writer.close()
    if vectors is not None:
        with naming(vectors):
            partial_path(vectors).replace(vectors)
    finish(out, {**dict.fromkeys(keep, "string"), **_column_types(predictor.tasks)})
    progress.forget()
    return progress.failed, progress.rows


class _Writer:
    """Appends batches of answers to the file of lines and, where there is one, that of vectors."""

    def __init__(
        self,
        predictor: "Predictor",
        out: Path,
        files: Sequence[BinaryIO],
        progress: WritingProgress,
        output: str | None,
        kept: Sequence[str],
    ) -> None:
        self.tasks, self.progress, self.output = predictor.tasks, progress, output
        self.width = 0 if output is None else predictor.output_dim(output)
        self.columns = {name: entry.column for name, entry in predictor.inputs.items()}
        self.kept, self.names = kept, [*kept, *prediction_columns(self.tasks)]
        self.is_csv = out.suffix.lower() == ".csv"
        self.lines, self.vectors = files[0], files[1:]
        self.files = files
        self.begin = progress.rows
        if progress.rows == 0:
            if self.is_csv:
                _append(self.lines, csv_line(self.names))
            for file in self.vectors:
                _append(file, npy_header(0, self.width))

    def write(self, batch: Sequence[RecordResult], table: Records, on_failure: Callable[[str], None] | None) -> None:
        """One batch; ``table`` holds the records from the first one that this process answers."""
        first = self.progress.rows - self.begin
        for row, answer in enumerate(batch, first):
            _append(self.lines, self._line([_text(table[row].get(name)) for name in self.kept], answer))
        for file in self.vectors:
            vectors = [_vector(answer, self.output, self.width) for answer in batch]
            _append(file, np.stack(vectors).astype("<f4").tobytes())
        failed = 0
        for row, answer in enumerate(batch, first):
            if isinstance(answer, RecordError):
                failed += 1
                if on_failure is not None:
                    column = None if answer.input is None else self.columns[answer.input]
                    on_failure(f"{table.place(row, column)}: {answer.reason}")
        self.progress.note(len(batch), failed, self.files)

    def _line(self, kept: Sequence[str | None], answer: RecordResult) -> bytes:
        if self.is_csv:
            return csv_line([*(cell or "" for cell in kept), *prediction_cells(self.tasks, answer)])
        return json_line(self.names, [*kept, *prediction_values(self.tasks, answer)])

    def close(self) -> None:
        """Says in the array's header how many rows there are; every header has the same length."""
        for file in self.vectors:
            file.seek(0)
            _append(file, npy_header(self.progress.rows, self.width))


def _append(file: BinaryIO, content: bytes) -> None:
    with naming(Path(file.name)):
        file.write(content)


def prediction_columns(tasks: Mapping[str, str]) -> list[str]:
    """Columns of the predictions file.

    >>> prediction_columns({"product": "classification", "price": "regression"})
    ['product', 'product_probability', 'price', 'error']
    """
    return list(_column_types(tasks))


def prediction_cells(tasks: Mapping[str, str], answer: RecordResult) -> list[str]:
    """One line of the predictions file, as text.

    >>> from multimodal.decoding import Prediction
    >>> prediction_cells({"price": "regression"}, {"price": Prediction(value=2.5)})
    ['2.5', '']
    """
    values = prediction_values(tasks, answer)
    return ["" if value is None else value if isinstance(value, str) else repr(value) for value in values]


def prediction_values(tasks: Mapping[str, str], answer: RecordResult) -> list[str | float | None]:
    """The same as values; None where there is nothing to say."""
    values: list[str | float | None] = []
    if isinstance(answer, RecordError):
        reason = answer.reason if answer.input is None else f"{answer.input}: {answer.reason}"
        values += [None] * (len(prediction_columns(tasks)) - 1)
        return [*values, reason]
    for task, kind in tasks.items():
        prediction = answer[task]
        if kind == "regression":
            values.append(prediction.value)
        elif kind != "embedding":
            values += [label_text(prediction), prediction.probability]
    return [*values, None]


def label_text(prediction: Prediction) -> str:
    """The class, or the labels joined by ``;``; empty where there is none.

    >>> label_text(Prediction(labels=("new", "sale")))
    'new;sale'
    """
    return ";".join(prediction.labels) if prediction.label is None else prediction.label


def _check_outputs(predictor: "Predictor", data: Any, table: Records, out: Path, vectors: Path | None) -> None:
    read: list[tuple[str, str | Path]] = [("the bundle", predictor.bundle.folder)]
    read += [("the table", data)] if isinstance(data, str | Path) else []
    columns = [entry.column for entry in predictor.inputs.values()]
    refuse_overwriting("--out", out, read, table.media(columns))
    if vectors is not None:
        refuse_overwriting("--embeddings", vectors, read, table.media(columns))
        refuse_overwriting("--embeddings", vectors, [("--out", out)])


def _check_kept(keep: Sequence[str], table: Records, answers: Sequence[str]) -> None:
    for name in keep:
        if name not in table.columns:
            raise ValueError(f"{name!r} cannot be kept: {table.source} has the columns {', '.join(table.columns)}")
        if name in answers or list(keep).count(name) > 1:
            raise ValueError(f"{name!r} cannot be kept: a column of that name is there already; rename it in the table")


def _text(cell: Any) -> str | None:
    return None if is_missing(cell) else str(cell)


def _column_types(tasks: Mapping[str, str]) -> dict[str, str]:
    types: dict[str, str] = {}
    for task, kind in tasks.items():
        if kind != "embedding":
            types |= {task: "double"} if kind == "regression" else {task: "string", f"{task}_probability": "double"}
    return {**types, "error": "string"}


def _job(predictor: "Predictor", data: Any, vectors: Path | None, output: str | None) -> dict[str, Any]:
    """What another process must have in common to go on."""
    is_file = isinstance(data, str | Path) and Path(data).is_file()
    return {
        "bundle": sha256_of(predictor.bundle.folder / BUNDLE_FILE),
        "table": sha256_of(Path(data)) if is_file else None,
        "precision": predictor.precision,
        "embeddings": None if vectors is None else vectors.name,
        "task": output,
    }


def _vector(answer: RecordResult, output: str | None, width: int) -> np.ndarray:
    vector = None if output is None or isinstance(answer, RecordError) else answer[output].embedding
    return np.full(width, np.nan, np.float32) if vector is None else vector
