"""Files of word vectors as they are published: word2vec (binary, text), GloVe, fastText's .vec; read as a stream."""

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

import numpy as np

BLOCK = 1 << 22
LONGEST_WORD = 10_000
"""Bytes; a binary file whose next space is further away is damaged."""
_COMPRESSED = (b"\x1f\x8b", b"PK", b"BZ", b"\xfd7")
_FASTTEXT_MODEL = struct.pack("<i", 793712314)  # FASTTEXT_FILEFORMAT_MAGIC_INT32 of fastText's src/fasttext.cc
_HEADER = re.compile(rb"(\d+)[ \t]+(\d+)\s*")

Entry = tuple[int, bytes, bytes]
"""Line (of a binary file: the word's number, from 1), word in UTF-8, vector in little-endian float32."""


@dataclass(frozen=True)
class VectorFile:
    """A file of word vectors, as its beginning describes it; iterating gives its words, in the file's order.

    Formats: a first line ``words dim`` and then words with their numbers in text (word2vec, fastText) or in
    float32 (word2vec), or no such line (GloVe).
    """

    path: Path
    dim: int
    count: int | None
    """Words; None where the file does not say."""
    is_binary: bool

    @property
    def unit(self) -> str:
        """Unit of the first element of an entry."""
        return "word" if self.is_binary else "line"

    @classmethod
    def inspect(cls, path: Path) -> "VectorFile":
        """Finds out the format from the file's first bytes.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is of another format, or cannot be read.
        """
        if not path.is_file():
            raise FileNotFoundError(
                f"there is no file of word vectors {str(path)!r}; give wordvectors/ and the path of a file of "
                "word2vec (.bin or text), GloVe (.txt) or fastText (.vec)"
            )
        with reading(path) as file:
            head = file.read(1 << 18)
        if head.startswith(_COMPRESSED):
            raise ValueError(f"{path}: is compressed; unpack it, and give the file that was in it")
        if head.startswith(_FASTTEXT_MODEL):
            raise ValueError(f"{path}: is a whole fastText model; give its file of vectors, which ends in .vec")
        first, _, rest = head.partition(b"\n")
        header = _HEADER.fullmatch(first)
        if header is not None and int(header[2]) > 0:
            count, dim = int(header[1]), int(header[2])
            return cls(path, dim, count, is_binary=count > 0 and not _is_text(rest.partition(b"\n")[0], dim))
        dim = len(first.split()) - 1
        if dim < 1 or not _is_text(first, dim):
            raise ValueError(f"{path}, line 1: is neither 'words dim' nor a word and its numbers; {_ADVICE}")
        return cls(path, dim, None, is_binary=False)

    def __iter__(self) -> Iterator[Entry]:
        """Every entry.

        Raises:
            ValueError: for the first that is damaged, with its line; or if the file cannot be read.
        """
        with reading(self.path) as file:
            header = 0 if self.count is None else 1
            if header:
                file.readline()
            found = 0
            for entry in self._binary(file) if self.is_binary else self._text(file, header):
                found += 1
                yield entry
        if self.count is not None and found != self.count:
            raise ValueError(f"{self.path}: announces {self.count} words and holds {found}; {_ADVICE}")

    def _text(self, file: BinaryIO, header: int) -> Iterator[Entry]:
        for line, content in enumerate(file, start=1 + header):
            stripped = content.replace(b"\t", b" ").rstrip(b" \r\n")
            if not stripped:
                continue
            word, _, numbers = stripped.partition(b" ")
            vector = _parse(numbers)
            if vector is None or len(vector) != self.dim:  # some words of GloVe have spaces in them
                word, *fields = stripped.rsplit(b" ", self.dim)
                vector = _parse(b" ".join(fields)) if len(fields) == self.dim else None
            if vector is None or not word:
                raise ValueError(f"{self.path}, line {line}: is no word with {self.dim} numbers; {_ADVICE}")
            yield line, word, vector.tobytes()

    def _binary(self, file: BinaryIO) -> Iterator[Entry]:
        size = 4 * self.dim
        buffer, start = b"", 0
        for number in range(1, (self.count or 0) + 1):
            while (space := buffer.find(b" ", start)) < 0 or len(buffer) < space + 1 + size:
                block = file.read(BLOCK)
                if not block or (space < 0 and len(buffer) - start > LONGEST_WORD):
                    raise ValueError(
                        f"{self.path}, word {number} of {self.count}: the file ends, or is damaged, here; {_ADVICE}"
                    )
                buffer, start = buffer[start:] + block, 0
            end = space + 1 + size
            yield number, buffer[start:space].lstrip(b"\n"), buffer[space + 1 : end]  # some writers end in a newline
            start = end
        if (buffer[start:] + file.read(16)).strip():
            raise ValueError(f"{self.path}: continues after its {self.count} words; {_ADVICE}")


@contextmanager
def reading(path: Path) -> Iterator[BufferedReader]:
    """Opens a file; what fails while it is read is no fault of the place that is written to meanwhile.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror or error}); see its permissions and its disk, or copy it again"
        ) from error


_ADVICE = "it is damaged, or of another format than word2vec's, GloVe's or fastText's .vec; fetch it again"


def _is_text(line: bytes, dim: int) -> bool:
    fields = line.rstrip().rsplit(None, dim)
    vector = _parse(b" ".join(fields[1:])) if len(fields) == dim + 1 else None
    return vector is not None and len(vector) == dim


def _parse(numbers: bytes) -> np.ndarray | None:
    try:
        return np.fromstring(numbers, dtype="<f4", sep=" ")
    except (ValueError, DeprecationWarning):  # before numpy 2.3 it was a warning and what had been read until there
        return None
