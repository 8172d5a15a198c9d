"""Raw values of the golden records, to check preprocessing on another machine. Never imports torch.

A bundle has them only on request: photos, voices and texts can be private.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from encoders.preprocessing import Preprocessor, UnreadableValueError
from export.bundle import Bundle
from multimodal.records import InputReader, Records, is_missing
from multimodal.records.media import media_path
from multimodal.runtime.files import write_atomically

FOLDER = "golden/media"
_NAME = re.compile(r"golden/media/(\d+)\.([a-z][a-z0-9_]*)(\.[a-z0-9]+)")
_GREY_LEVELS = 2  # between two versions of a JPEG decoder
_TOLERANCE = 1e-4


def write_media(staging: Path, readers: Mapping[str, InputReader], records: Records, rows: Sequence[int]) -> None:
    """Writes the raw values of the records in ``rows`` as ``golden/media/<number>.<input>.<suffix>``.

    Raises:
        ValueError: if a value is neither a file, nor bytes, nor text.
    """
    for number, row in enumerate(rows):
        for name, reader in readers.items():
            value = records[row].get(reader.column)
            if is_missing(value):
                continue
            content, suffix = _raw(value, reader, records, row)
            path = staging / FOLDER / f"{number}.{name}{suffix}"
            write_atomically(path, content)


def _raw(value: Any, reader: InputReader, records: Records, row: int) -> tuple[bytes, str]:
    if isinstance(value, bytes):
        return value, ".bin"
    if isinstance(value, str | Path) and reader.reads_paths:
        path = media_path(value, records.root, allow_outside=records.allow_outside)
        suffix = path.suffix.lower()
        return path.read_bytes(), suffix if re.fullmatch(r"\.[a-z0-9]+", suffix) else ".bin"
    if isinstance(value, str):
        return value.encode(), ".txt"
    raise ValueError(
        f"{records.place(row, reader.column)} is a {type(value).__name__}, which cannot be kept as a file; give "
        "records of files and texts, or export without golden media"
    )


def media_problems(
    bundle: Bundle, feed: Mapping[str, np.ndarray], preprocessors: Mapping[str, Preprocessor]
) -> Iterator[str]:
    """Values that this machine preprocesses to other arrays than the golden ones, one line each.

    Args:
        feed: arrays of the golden records.
        preprocessors: of every input.
    """
    for file in bundle.files:
        match = _NAME.fullmatch(file)
        if match is None:
            continue
        number, name = int(match[1]), match[2]
        preprocess = preprocessors[name]
        content = bundle.path(file).read_bytes()
        try:
            arrays = preprocess(content.decode() if preprocess.modality == "text" else content)
        except (UnreadableValueError, UnicodeDecodeError) as error:
            yield f"{bundle.folder}: {file} cannot be read here ({error})"
            continue
        for key, array in arrays.items():
            if not _close(array, feed[f"{name}.{key}"], number):
                yield (
                    f"{bundle.folder}: {file} is preprocessed to other {key} than where the bundle was written; "
                    "compare the versions of Pillow, tokenizers, soundfile and soxr with those in bundle.json"
                )


def _close(array: np.ndarray, golden: np.ndarray, number: int) -> bool:
    """True if the array is the golden batch's row, which is padded at its end."""
    if number >= len(golden) or array.ndim != golden.ndim - 1:
        return False
    row = golden[number]
    if any(size > padded for size, padded in zip(array.shape, row.shape, strict=True)):
        return False
    row = row[tuple(slice(length) for length in array.shape)]
    limit = _GREY_LEVELS if array.dtype == np.uint8 else _TOLERANCE if array.dtype.kind == "f" else 0
    difference = np.abs(array.astype(np.float64) - row.astype(np.float64))
    return bool(difference.max(initial=0.0) <= limit)
