"""Answers as files: one line of CSV a record, and embeddings as one array. Never imports torch."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from export.vectors import vector_output
from multimodal.decoding import Prediction
from multimodal.records import RecordError, read_records

if TYPE_CHECKING:
    from export.predictor import Predictor

Answer = dict[str, Prediction] | RecordError
"""Task -> prediction; or why the record has none."""


def write_predictions(
    predictor: "Predictor",
    data: Any,
    out: str | Path,
    *,
    embeddings: str | Path | None = None,
    task: str | None = None,
    batch_size: int = 32,
    complain: Callable[[str], None] | None = None,
    root: str | Path | None = None,
    allow_outside: bool = False,
) -> tuple[int, int]:
    """Answers a table into a CSV file with one line a record, in the table's order; arrays never pile up.

    Columns: ``<task>`` and ``<task>_probability`` (regression: ``<task>`` alone; multilabel: labels joined by
    ``;`` and the smallest of their probabilities; embedding: none), and ``error``, empty where the record was
    answered. The file appears when it is complete.

    Args:
        data: a manifest's path, ``Records`` or a DataFrame.
        embeddings: takes vectors of length 1 as float32 ``[n d]`` (.npy), NaN where a record was not answered.
        task: whose vectors, as ``vector_output`` chooses them.
        complain: is told of each record that was not answered: where, and why.
        root, allow_outside: of the media, as ``read_records`` takes them.

    Returns:
        How many records were not answered, and how many there are.

    Raises:
        ManifestError: if the table cannot be read.
        LookupError, ValueError: if embeddings are asked of a bundle without them, as ``vector_output`` raises them.
    """
    output = None if embeddings is None else vector_output(predictor.bundle, task)
    table = read_records(data, root=root, allow_outside=allow_outside)
    batches = predictor.predict_batches(table, batch_size=batch_size, on_error="return")
    columns = {name: entry.column for name, entry in predictor.inputs.items()}
    failed = row = 0
    with ExitStack() as stack:
        lines = stack.enter_context(_appearing(Path(out)))
        lines.write(_csv_line(prediction_columns(predictor.tasks)))
        vectors = None
        if embeddings is not None and output is not None:
            width = predictor.output_width(output)
            vectors = stack.enter_context(_growing_array(Path(embeddings), width))
        for batch in batches:
            lines.writelines(_csv_line(prediction_cells(predictor.tasks, answer)) for answer in batch)
            if vectors is not None and output is not None:
                vectors(np.stack([_vector(answer, output, width) for answer in batch]))
            for number, answer in enumerate(batch, row):
                if isinstance(answer, RecordError):
                    failed += 1
                    if complain is not None:
                        column = None if answer.input is None else columns[answer.input]
                        complain(f"{table.place(number, column)}: {answer.reason}")
            row += len(batch)
    return failed, row


def prediction_columns(tasks: Mapping[str, str]) -> list[str]:
    """Columns of the predictions file.

    >>> prediction_columns({"product": "classification", "price": "regression"})
    ['product', 'product_probability', 'price', 'error']
    """
    columns = []
    for task, kind in tasks.items():
        if kind != "embedding":
            columns += [task] if kind == "regression" else [task, f"{task}_probability"]
    return [*columns, "error"]


def prediction_cells(tasks: Mapping[str, str], answer: Answer) -> list[str]:
    """One line of the predictions file.

    >>> prediction_cells({"price": "regression"}, {"price": Prediction(value=2.5)})
    ['2.5', '']
    """
    if isinstance(answer, RecordError):
        reason = answer.reason if answer.input is None else f"{answer.input}: {answer.reason}"
        return [""] * (len(prediction_columns(tasks)) - 1) + [reason]
    cells = []
    for task, kind in tasks.items():
        prediction = answer[task]
        if kind == "regression":
            cells.append(repr(prediction.value))
        elif kind != "embedding":
            label = ";".join(prediction.labels) if prediction.label is None else prediction.label
            cells += [label, "" if prediction.probability is None else repr(prediction.probability)]
    return [*cells, ""]


def _csv_line(cells: Sequence[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue().encode("utf-8", "backslashreplace")


def _vector(answer: Answer, output: str, width: int) -> np.ndarray:
    vector = None if isinstance(answer, RecordError) else answer[output].embedding
    return np.full(width, np.nan, np.float32) if vector is None else vector


@contextmanager
def _appearing(path: Path) -> Iterator[BinaryIO]:
    """A file beside ``path`` that takes its name when the block ends well, and vanishes otherwise; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _growing_array(path: Path, width: int) -> Iterator[Callable[[np.ndarray], None]]:
    """A float32 array ``[n width]`` in the .npy format, of which ``n`` is not known before; takes rows."""

    def header(rows: int) -> dict[str, Any]:
        return {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}

    rows = 0

    def append(vectors: np.ndarray) -> None:
        nonlocal rows
        rows += len(vectors)
        file.write(vectors.astype("<f4").tobytes())

    with _appearing(path) as file:
        np.lib.format.write_array_header_1_0(file, header(0))
        yield append
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header(rows))  # numpy leaves room for the first axis to grow
