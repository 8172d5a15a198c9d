"""Opening a raw value that is a file: its path, or its bytes."""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from encoders.preprocessing.base import UnreadableValueError

Bytes = bytes | bytearray | memoryview


def is_file_value(raw: Any) -> bool:
    """True if ``raw`` is a path or the bytes of a file.

    >>> is_file_value("photo.jpg"), is_file_value(b"RIFF"), is_file_value(3)
    (True, True, False)
    """
    return isinstance(raw, str | os.PathLike | Bytes)


def file_name(raw: Any) -> str:
    """Name of a file in messages: its path as given, or that it was bytes.

    >>> file_name("photo.jpg"), file_name(b"RIFF")
    ('photo.jpg', 'the given bytes')
    """
    return "the given bytes" if isinstance(raw, Bytes) else str(raw)


def is_desktop_file(name: str) -> bool:
    """True for a file that file managers leave in every folder they show, and that nothing reads.

    >>> [is_desktop_file(name) for name in (".DS_Store", "Thumbs.db", "._model.onnx", "model.onnx")]
    [True, True, True, False]
    """
    return name in (".DS_Store", "Thumbs.db", "desktop.ini") or name.startswith("._")


@contextmanager
def open_file(raw: Any) -> Iterator[BinaryIO]:
    """Opens a path or bytes for reading.

    >>> with open_file(b"RIFF") as file:
    ...     file.read()
    b'RIFF'

    Raises:
        UnreadableValueError: if there is no such file, or it is a folder, a pipe or a device.
    """
    if isinstance(raw, Bytes):
        yield io.BytesIO(raw)
        return
    try:
        is_regular = stat.S_ISREG(os.stat(raw).st_mode)  # before opening: to open a pipe would wait for its writer
        file = open(raw, "rb") if is_regular else None  # noqa: SIM115, closed below
    except FileNotFoundError as error:
        raise UnreadableValueError(f"{raw}: there is no such file; check the path and its folder") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableValueError(f"{raw!s}: cannot be opened ({reason}); give the path of a file") from error
    if file is None:
        raise UnreadableValueError(f"{raw}: is not a regular file; give the path of a file, not of a folder")
    with file:
        yield file


class FileView(io.RawIOBase):
    """A stretch of a file, whose first bytes may be others, and which may claim to be longer than it is."""

    def __init__(self, file: "Stream", start: int, stop: int, head: bytes = b"", claimed: int = 0) -> None:
        self._file, self._head, self._offset = file, head, start
        self._size = len(head) + max(0, stop - start - len(head))
        self._claimed = self._size + claimed
        self._place, self._file_place = 0, -1

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = max(0, offset + (0, self._place, self._claimed)[whence])
        return self._place

    def readinto(self, buffer: Any) -> int:
        start, view = self._place, memoryview(buffer).cast("B")
        if start < len(self._head):
            part = self._head[start : start + len(view)]
            view[: len(part)] = part
            self._place, view = start + len(part), view[len(part) :]
        if (count := min(len(view), self._size - self._place)) > 0:
            if self._file_place != self._place:
                self._file.seek(self._offset + self._place)
            self._place += self._file.readinto(view[:count])  # type: ignore[union-attr]
            self._file_place = self._place
        elif self._size < self._claimed and self._place >= self._claimed - 128:  # where a decoder looks for a tag
            count = min(len(view), self._claimed - self._place)
            view[:count] = bytes(count)
            self._place += count
        return self._place - start


Stream = BinaryIO | FileView


def read_at(file: Stream, place: int, count: int) -> bytes:
    """Up to ``count`` bytes from ``place`` on."""
    file.seek(place)
    return file.read(count)
