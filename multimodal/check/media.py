"""Checks of media: every file is decoded and hashed once. Never imports torch."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encoders.preprocessing import UnreadableValueError
from encoders.preprocessing.audio import audio_doubt, decode_audio
from encoders.preprocessing.image_files import decode_image
from multimodal.check.problems import Problem, Split
from multimodal.config import Job
from multimodal.records import is_missing
from multimodal.records.cells import content_bytes
from multimodal.records.media import media_path, quote, respelling
from multimodal.runtime.files import sha256_of
from multimodal.runtime.threads import available_cores
from multimodal.task_types import TaskType

DECODERS: Mapping[str, Callable[[Any], Any]] = {"image": decode_image, "audio": decode_audio}
"""Modality -> decoder of its raw values."""


@dataclass(frozen=True)
class _Cell:
    """One value of a media column; equal to another only at the same place."""

    split: int
    row: int
    column: str
    modality: str
    value: Any = field(compare=False)


def media_problems(job: Job, splits: Sequence[Split], modalities: Mapping[str, str]) -> Iterator[Problem]:
    """Media that cannot be read; then the same content in two splits, or with contradicting labels.

    Args:
        modalities: input -> modality; others than ``DECODERS`` are skipped.
    """
    columns = {(job.input_column(name), kind): None for name, kind in modalities.items() if kind in DECODERS}
    cells = [
        _Cell(index, row, column, modality, record[column])
        for index, split in enumerate(splits)
        for row, record in enumerate(split.records.rows)
        for column, modality in columns
        if not is_missing(record.get(column))
    ]
    digests: dict[_Cell, str] = {}
    for cell, (digest, reason, doubts) in zip(cells, _examine(cells, splits), strict=True):
        for kind, doubt in doubts.items():
            yield splits[cell.split].problem("warning", doubt, cell.column, cell.row, kind=kind)
        if reason:
            yield splits[cell.split].problem("error", reason, cell.column, cell.row)
        else:
            digests[cell] = digest
    yield from _shared_content(digests, splits)
    if set(modalities.values()) <= set(DECODERS):  # else an input that is not compared may tell the records apart
        for name, column in job.label_columns().items():
            yield from _contradictions(column, job.tasks[name].kind, digests, splits)


def _examine(cells: Sequence[_Cell], splits: Sequence[Split]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """The digest of each cell's content, or why it cannot be read, and warnings about it by kind.

    A file that several cells name is read once.
    """
    sources = [_source(cell, splits[cell.split]) for cell in cells]
    keys = [
        (cell.modality, source if isinstance(source, Path) else number)
        for number, (cell, source) in enumerate(zip(cells, sources, strict=True))
    ]
    work = dict(zip(keys, sources, strict=True))
    with ThreadPoolExecutor(available_cores()) as pool:  # decoders release the interpreter while they work
        results = dict(zip(work, pool.map(_decode, [key[0] for key in work], work.values()), strict=True))
    for cell, key, source in zip(cells, keys, sources, strict=True):
        (digest, reason, doubt), doubts = results[key], {}
        if doubt is not None:
            doubts["content"] = f"{_written(cell)} {doubt}"
        if isinstance(source, Path):
            note = respelling(cell.value, source, splits[cell.split].records.root)
            doubts |= {} if note is None else {"spelling": f"{note}; write it so, since other programs may not find it"}
            reason = reason and f"{quote(cell.value)}: {reason.removeprefix(f'{source}: ')}"  # as it was written
        yield digest, reason, doubts


def _source(cell: _Cell, split: Split) -> Any:
    """Path or raw value for the decoder, or the error of the path."""
    if not isinstance(cell.value, str | Path):
        return cell.value
    try:
        return media_path(cell.value, split.records.root, allow_outside=split.records.allow_outside)
    except UnreadableValueError as error:
        return error


def _decode(modality: str, source: Any) -> tuple[str, str, str | None]:
    """Digest; or why it cannot be read; and why to doubt it."""
    if isinstance(source, UnreadableValueError):
        return "", str(source), None
    try:
        decoded = DECODERS[modality](source)
    except UnreadableValueError as error:
        return "", str(error), None
    doubt = audio_doubt(source, decoded[0]) if modality == "audio" else None
    digest = sha256_of(source) if isinstance(source, Path) else hashlib.sha256(content_bytes(source)).hexdigest()
    return digest, "", doubt


def _shared_content(digests: Mapping[_Cell, str], splits: Sequence[Split]) -> Iterator[Problem]:
    """Every cell whose content an earlier split with labels has too."""
    first: dict[str, _Cell] = {}
    for cell, digest in digests.items():
        if splits[cell.split].name == "unlabelled":
            continue
        earlier = first.setdefault(digest, cell)
        if earlier.split != cell.split:
            message = (
                f"{_written(cell)} has the same content as {_written(earlier)} in {splits[earlier.split].file}, "
                f"row {earlier.row + 1}, column {earlier.column}; keep it in one split"
            )
            yield splits[cell.split].problem("warning", message, cell.column, cell.row)


def _written(cell: _Cell) -> str:
    return quote(cell.value) if isinstance(cell.value, str | Path) else "the cell"


def _contradictions(
    column: str, kind: TaskType, digests: Mapping[_Cell, str], splits: Sequence[Split]
) -> Iterator[Problem]:
    """Records of one split that have the same media and different labels."""
    contents: dict[tuple[int, int], dict[str, str]] = {}
    for cell, digest in digests.items():
        contents.setdefault((cell.split, cell.row), {})[cell.column] = digest
    first: dict[tuple[Any, ...], tuple[int, set[Any]]] = {}
    for (index, row), content in contents.items():
        value = splits[index].records[row].get(column)
        try:
            labels = set(kind.read_cell(value))
        except UnreadableValueError:
            continue  # reported by check_labels
        if is_missing(value):
            continue
        earlier, others = first.setdefault((index, *sorted(content.items())), (row, labels))
        if others != labels:
            other = splits[index].records[earlier].get(column)
            message = (
                f"{quote(value)}, but row {earlier + 1} has {quote(other)} and the same media; correct one of them"
            )
            yield splits[index].problem("warning", message, column, row)
