"""Word vectors on disk: converted once to sorted keys and a matrix, which are memory-mapped from then on.

Never imports torch. Vectors are streamed when they are converted; the words are held to be sorted (3 million take
0.6 GB for some seconds).
"""

import hashlib
import json
import logging
import mmap
import os
import shutil
import tempfile
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from encoders.text.word_files import VectorFile, reading

FORMAT = 1
KEYS, OFFSETS, ROWS, MATRIX, TABLE = "keys.bin", "offsets.npy", "rows.npy", "matrix.npy", "table.json"
BATCH = 4096

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WordTable:
    """Words in the order of their bytes, and their vectors in the order of the file, the most frequent word first."""

    keys: mmap.mmap
    """Bytes of all words, one after the other."""
    offsets: np.ndarray
    """Where each word begins in ``keys``; one more at the end."""
    rows: np.ndarray
    """Row of each word in the matrix."""
    matrix: np.ndarray
    """float32 ``[n d]``."""
    sha256: str
    """Of the file that it was made from."""

    @classmethod
    def open(cls, source: Path, cache: Path | None = None) -> "WordTable":
        """The table of a file of word vectors; converts it first where there is none yet, or the file has changed.

        Args:
            cache: folder for converted files; None puts each beside its source.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged, or cannot be read.
            OSError: if nothing can be written there.
        """
        if not source.is_file():
            VectorFile.inspect(source)
        folder = _folder(source, cache)
        table = _read_table(folder)
        if table is None or table["source"] != _state_of(source):
            try:
                table = _convert(source, folder)
            except OSError as error:
                raise type(error)(
                    f"{source} has to be converted once, and {folder} cannot be written ({error.strerror or error}); "
                    "give a folder of your own as the option cache"
                ) from error
        with (folder / KEYS).open("rb") as file:
            keys = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # as plain arrays: each element of a np.memmap is a slow np.memmap again
        offsets, rows, matrix = (
            np.load(folder / name, mmap_mode="r").view(np.ndarray) for name in (OFFSETS, ROWS, MATRIX)
        )
        return cls(keys, offsets, rows, matrix, table["sha256"])

    @property
    def dim(self) -> int:
        """Of each vector."""
        return int(self.matrix.shape[1])

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, word: str) -> int | None:
        """Row of the matrix with a word's vector; None for an unknown word."""
        key = word.encode("utf-8", "surrogatepass")
        place = bisect_left(range(len(self)), key, key=self._key)
        return int(self.rows[place]) if place < len(self) and self._key(place) == key else None

    def most_frequent(self, count: int) -> dict[str, int]:
        """The words of the first ``count`` rows and their rows, but for words that no text can hold as one."""
        places = np.flatnonzero(self.rows < count)
        ordered = places[np.argsort(self.rows[places])]
        words = {self._word(place): row for place, row in zip(ordered, self.rows[ordered].tolist(), strict=True)}
        return {word: row for word, row in words.items() if word is not None}

    def _key(self, place: int) -> bytes:
        return self.keys[self.offsets[place] : self.offsets[place + 1]]

    def _word(self, place: int) -> str | None:
        """None where it is no UTF-8, or has spaces or line ends inside."""
        word = self._key(place).decode("utf-8", "replace")
        return word if word.split() == [word] and "\ufffd" not in word else None


def _folder(source: Path, cache: Path | None) -> Path:
    if cache is None:
        return source.with_name(f"{source.name}.table")
    digest = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:12]  # files of one name in several folders
    return cache / f"{source.name}-{digest}.table"


def _state_of(source: Path) -> dict[str, int]:
    status = source.stat()
    return {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def _read_table(folder: Path) -> dict[str, Any] | None:
    """Description of a converted file; None where it is missing, incomplete, or of another format."""
    try:
        table = json.loads((folder / TABLE).read_text(encoding="utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in (KEYS, OFFSETS, ROWS, MATRIX)}
        return table if table["format"] == FORMAT and table["sizes"] == sizes else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _convert(source: Path, folder: Path) -> dict[str, Any]:
    """Reads the source once and puts the finished folder in its place; one that is cut off leaves nothing there."""
    file = VectorFile.inspect(source)
    state = _state_of(source)
    logger.info("converting %s once, to %s", source, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        words = _write_matrix(staging / MATRIX, file)
        if not words:
            raise ValueError(f"{source}: holds no words; fetch it again")
        kept = _write_keys(staging, words)
        if kept < len(words):
            logger.info("%s: %d words are there twice; the first of each counts", source, len(words) - kept)
        sizes = {name: (staging / name).stat().st_size for name in (KEYS, OFFSETS, ROWS, MATRIX)}
        with reading(source) as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        table = {"format": FORMAT, "source": state, "sha256": digest, "sizes": sizes}
        (staging / TABLE).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        _put_in_place(staging, folder)
        return table
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _put_in_place(staging: Path, folder: Path) -> None:
    """Renames; what is there already, of an older source or of another process, is moved away and removed."""
    staging.chmod(0o755)  # mkdtemp's is for its owner alone
    try:
        os.replace(staging, folder)
    except OSError:  # a folder that is not empty
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as old:
            os.replace(folder, Path(old) / "old")
            os.replace(staging, folder)


def _write_matrix(path: Path, file: VectorFile) -> list[bytes]:
    """Streams the vectors into a .npy file; returns the words."""
    words: list[bytes] = []
    with path.open("wb") as out:
        _write_header(out, 0, file.dim)
        entries = iter(file)
        while batch := list(islice(entries, BATCH)):
            words += _write_batch(out, batch, file)
        out.seek(0)
        _write_header(out, len(words), file.dim)  # as long as the first: numpy leaves room for the number of rows
    return words


def _write_header(out: Any, count: int, dim: int) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": (count, dim)}
    np.lib.format.write_array_header_1_0(out, header)


def _write_batch(out: Any, batch: Sequence[tuple[int, bytes, bytes]], file: VectorFile) -> list[bytes]:
    content = b"".join(vector for _, _, vector in batch)
    finite = np.isfinite(np.frombuffer(content, dtype="<f4").reshape(len(batch), file.dim)).all(axis=1)
    if not finite.all():
        place = batch[int(np.argmin(finite))][0]
        raise ValueError(f"{file.path}, {file.unit} {place}: holds a number that is not finite; fetch it again")
    out.write(content)
    return [word for _, word, _ in batch]


def _write_keys(folder: Path, words: list[bytes]) -> int:
    """Writes the sorted words; of equal ones the first is kept. Returns how many there are."""
    held = np.array([*words, None], dtype=object)[:-1]  # None keeps numpy from making an array of bytes
    order = np.argsort(held, kind="stable")
    ordered = held[order]
    first = np.ones(len(ordered), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    rows, kept = order[first].astype(np.int32), ordered[first]
    offsets = np.zeros(len(kept) + 1, np.int64)
    np.cumsum([len(word) for word in kept], out=offsets[1:])
    (folder / KEYS).write_bytes(b"".join([*kept, b"\n"]))  # an empty file cannot be mapped
    np.save(folder / OFFSETS, offsets)
    np.save(folder / ROWS, rows)
    return len(kept)
