"""Vectors of a table's records, and the records that have none. Never imports torch."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from encoders.preprocessing import UnreadableValueError
from export.predictor import Predictor
from multimodal.records import RecordError, Records, class_label, is_missing


@dataclass(frozen=True)
class Embedded:
    """Vectors of records, and errors of unreadable ones."""

    vectors: np.ndarray
    """float32 [n d], of the readable records."""
    rows: tuple[int, ...]
    """Rows of the readable records, from 0."""
    missing: tuple[tuple[str, ...], ...]
    """Missing inputs of each readable record."""
    errors: tuple[RecordError, ...]
    """Errors of the other records."""


def embed(predictor: Predictor, records: Any, output: str, *, batch_size: int = 32) -> Embedded:
    """Embeds records, as ``Predictor.predict`` takes them."""
    results = predictor.predict(records, batch_size=batch_size, on_error="return")
    good = [(row, result[output]) for row, result in enumerate(results) if not isinstance(result, RecordError)]
    vectors = [prediction.embedding for _, prediction in good if prediction.embedding is not None]
    return Embedded(
        np.stack(vectors).astype(np.float32) if vectors else np.zeros((0, predictor.output_dim(output)), np.float32),
        tuple(row for row, _ in good),
        tuple(prediction.missing for _, prediction in good),
        tuple(result for result in results if isinstance(result, RecordError)),
    )


def embed_labelled(
    predictor: Predictor, records: Records, column: str, output: str, *, batch_size: int = 32
) -> tuple[list[str], Embedded]:
    """Labels and vectors of the records that have both; one without a label is an error, too.

    Raises:
        ManifestError: if the table has no such column.
    """
    records.require([column])
    labels, errors = _read_labels(records, column)
    found = embed(predictor, records, output, batch_size=batch_size)
    errors = {error.row: error for error in found.errors} | errors
    kept = [place for place, row in enumerate(found.rows) if row in labels]
    rows = tuple(found.rows[place] for place in kept)
    return [labels[row] for row in rows], Embedded(
        found.vectors[kept],
        rows,
        tuple(found.missing[place] for place in kept),
        tuple(errors[row] for row in sorted(errors)),
    )


def _read_labels(records: Records, column: str) -> tuple[dict[int, str], dict[int, RecordError]]:
    """Row -> label, and row -> error where it has none."""
    labels, errors = {}, {}
    for row in range(len(records)):
        value = records[row].get(column)
        try:
            if is_missing(value):
                raise UnreadableValueError("names no product; fill it in")
            labels[row] = class_label(value)
        except UnreadableValueError as error:
            errors[row] = RecordError(row, None, f"column {column!r}: {error}")
    return labels, errors
