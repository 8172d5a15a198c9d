"""Meaning of a cell: missing, a class, a set of labels, a number for its content. Never imports torch."""

import hashlib
import math
import numbers
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from encoders.preprocessing import UnreadableValueError
from multimodal.records.media import quote


def is_missing(value: Any) -> bool:
    """True for an empty cell: None, NaN, pandas' NA and NaT, or text of nothing but spaces.

    An empty list is not missing: it means "none".

    >>> [is_missing(value) for value in (None, float("nan"), "  ", "", 0, [], "none")]
    [True, True, True, True, False, False, False]
    """
    if value is None:
        return True
    if isinstance(value, str):
        return not value.strip()
    if type(value).__name__ in ("NAType", "NaTType"):  # pandas', without importing it; NA compares with nothing
        return True
    return isinstance(value, numbers.Number | np.generic) and bool(value != value)  # NaN differs from itself


def plain_cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row, with the media that Hugging Face's datasets hold in dicts as values that encoders read.

    ``{"bytes", "path"}`` becomes the bytes, or the path where there are none; ``{"array", "sampling_rate"}``, maybe
    with a path, becomes (waveform, rate).

    >>> plain_cells({"image": {"bytes": None, "path": "a.jpg"}, "label": 3})
    {'image': 'a.jpg', 'label': 3}
    """
    return {key: _unwrapped(cell) if isinstance(cell, Mapping) else cell for key, cell in row.items()}


def _unwrapped(cell: Mapping[str, Any]) -> Any:
    keys = set(cell)
    if keys in ({"bytes", "path"}, {"bytes"}):
        return cell.get("path") if cell["bytes"] is None else cell["bytes"]
    if keys - {"path"} == {"array", "sampling_rate"}:
        return None if cell["array"] is None else (cell["array"], cell["sampling_rate"])
    return cell


def class_label(value: Any) -> str:
    """The class that a cell names, as text in Unicode's composed form (NFC), without spaces around it.

    Whole floats lose their ``.0``: pandas turns a column of whole numbers with gaps into floats.

    >>> [class_label(value) for value in (" Apple ", 3, 3.0, 2.5, True)]
    ['Apple', '3', '3', '2.5', 'True']
    >>> class_label("cafe\u0301") == "caf\u00e9"
    True

    Raises:
        UnreadableValueError: if it is not a single value.
    """
    if isinstance(value, bytes | Mapping | Iterable) and not isinstance(value, str):
        raise UnreadableValueError(
            f"{quote(value)} is a {type(value).__name__}; a class label is one text or number (several labels "
            "per record are a multilabel task)"
        )
    if isinstance(value, float | np.floating) and math.isfinite(value) and float(value).is_integer():
        return str(int(value))
    try:
        return unicodedata.normalize("NFC", str(value).strip())
    except ValueError as error:  # more digits than Python converts
        raise UnreadableValueError(f"is a whole number of too many digits ({error}); give it as text") from error


def label_set(value: Any) -> tuple[str, ...]:
    """The labels that a multilabel cell names: text joined by ``;``, or a list; each once, in order.

    ``";"`` and ``[]`` mean none. A missing cell, which means unknown, gives none as well: call ``is_missing`` first.

    >>> label_set("new; sale;new"), label_set(["new", 3]), label_set(";")
    (('new', 'sale'), ('new', '3'), ())

    Raises:
        UnreadableValueError: if it is neither, or if a label in a list holds a ``;``.
    """
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        labels = [class_label(item) for item in value if not is_missing(item)]
        joined = [label for label in labels if ";" in label]
        if joined:
            raise UnreadableValueError(f"the label {quote(joined[0])} holds a ';', which separates labels; rename it")
        labels = sorted(labels) if isinstance(value, set | frozenset) else labels
    elif is_missing(value):
        labels = []
    else:
        labels = [label.strip() for label in class_label(value).split(";")]
    return tuple(dict.fromkeys(label for label in labels if label))


def content_number(value: Any) -> int:
    """Hash of a value in 63 bits; never 0.

    A text (without spaces around it) or a path is hashed as written, so that one file under two names is two; bytes,
    arrays and images in memory by their content.

    >>> content_number(" red apple") == content_number("red apple"), content_number("a.jpg") == content_number("b.jpg")
    (True, False)
    """
    digest = hashlib.blake2b(content_bytes(value), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1 or 1


def content_bytes(value: Any) -> bytes:
    """Bytes that tell a value from others: those of a file as they are, else a description."""
    if isinstance(value, str | Path):
        return str(value).strip().encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return value
    if isinstance(value, tuple | list):  # a waveform and its rate
        return b"".join(hashlib.blake2b(content_bytes(part)).digest() for part in value)
    array = np.asarray(value)
    if array.dtype == object:
        return repr(value).encode()
    return f"{array.dtype.str} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes()
