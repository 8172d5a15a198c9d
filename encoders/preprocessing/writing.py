"""Writing files so that a reader never sees half of one, and a failure names its file. Never imports torch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TypeVar

AnyPath = TypeVar("AnyPath", Path, PurePosixPath)


class UnwritableFileError(OSError):
    """A file that cannot be written; the message names it, and ``errno`` says why."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Names the file whose writing fails in the block: the system's own error says no more than that a disk is full.

    Raises:
        UnwritableFileError: in the place of another OSError.
    """
    try:
        yield
    except UnwritableFileError:
        raise
    except OSError as error:
        named = UnwritableFileError(
            f"{path} cannot be written ({error.strerror or error}); make room there, or name another folder"
        )
        named.errno = error.errno
        raise named from error


def partial_path(path: AnyPath) -> AnyPath:
    """File that is written, or grows, until ``path`` is complete.

    >>> partial_path(PurePosixPath("run/model.json")).as_posix()
    'run/.model.json.partial'
    """
    return path.with_name(f".{path.name}.partial")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to be written; it takes the name when the block ends well, and vanishes otherwise.

    The folder is made where there is none.

    Raises:
        UnwritableFileError: if it cannot be written; what ``path`` was before is as it was.
    """
    partial = partial_path(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            os.replace(partial, path)
        except BaseException:
            with suppress(OSError):  # the first failure is what counts
                partial.unlink()
            raise


def write_atomically(path: Path, content: bytes) -> None:
    """Writes beside ``path`` and renames: after a crash the file is either the old or the new one.

    Raises:
        UnwritableFileError: as ``replacing``.
    """
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
