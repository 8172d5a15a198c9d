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
    """Whether ``raw`` is a path or the bytes of a file.

    >>> is_file_value("photo.jpg"), is_file_value(b"RIFF"), is_file_value(3)
    (True, True, False)
    """
    return isinstance(raw, str | os.PathLike | Bytes)


def file_name(raw: Any) -> str:
    """What messages call a file: its path as given, or that it was bytes.

    >>> file_name("photo.jpg"), file_name(b"RIFF")
    ('photo.jpg', 'the given bytes')
    """
    return "the given bytes" if isinstance(raw, Bytes) else str(raw)


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
