"""Files: written whole or not at all, digests, and the folder of what may be computed again. Never imports torch."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from encoders.preprocessing.writing import UnwritableFileError, naming, partial_path, replacing, write_atomically

logger = logging.getLogger(__name__)

__all__ = [
    "OverwriteError",
    "UnwritableFileError",
    "naming",
    "partial_path",
    "refuse_overwriting",
    "replacing",
    "require_temporary_folder",
    "sha256_of",
    "write_atomically",
    "write_json",
]


class OverwriteError(ValueError):
    """An output that is also an input."""


def refuse_overwriting(
    option: str,
    out: str | Path,
    read: Iterable[tuple[str, str | Path]],
    media: Iterable[Path] = (),
) -> None:
    """Checks that an output is none of the inputs by whatever path, link or hard link, and in no folder that is read.

    Args:
        option: that names the output.
        out: a file or folder, there already or not.
        read: what each file or folder is, for the message, and its path.
        media: of records; looked at only where ``out`` is there already.

    Raises:
        OverwriteError: for the first that it is; names both.
    """
    own = _identity(out)
    for what, path in read:
        if own == _identity(path):
            raise OverwriteError(
                f"{option} {out} is the same file as {what} {path}, which would be lost; name another file"
            )
        if _lies_in(out, path):
            raise OverwriteError(
                f"{option} {out} lies in {what} {path}, which must stay as it is; name a place outside of it"
            )
    for path in media if os.path.exists(out) else ():
        if own == _identity(path):
            raise OverwriteError(f"{option} {out} is the same file as {path}, which a record names; name another file")


def _identity(path: str | Path) -> tuple[int, int] | str:
    """Device and inode, which all paths to a file share; where there is none, its last place."""
    try:
        status = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    except ValueError:  # a cell that is no path, whose record says so
        return str(path)
    return status.st_dev, status.st_ino


def _lies_in(out: str | Path, folder: str | Path) -> bool:
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(folder)):
        return True
    has_other_names = os.path.isfile(out) and os.stat(out).st_nlink > 1
    return has_other_names and _identity(out) in map(_identity, Path(folder).rglob("*"))


def write_json(path: Path, content: Any) -> None:
    """JSON, written atomically; half a surrogate pair, which UTF-8 does not have, as JSON's own escape."""
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode("utf-8", "backslashreplace"))


def require_temporary_folder() -> None:
    """Checks that there is a folder for temporary files, without which torch neither trains nor exports.

    Raises:
        OSError: if there is none; names those that were tried.
    """
    try:
        tempfile.gettempdir()
    except OSError as error:
        raise OSError(f"{error.strerror}; set TMPDIR to a folder that can be written") from error


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_cache(*parts: str) -> Path | None:
    """The cache folder, or one in it, made and tried; what cannot be kept is a convenience less, and no error.

    Returns:
        None where nothing can be written, which is warned of; a folder that can be read alone, and holds something, is
        still used.
    """
    folder = None
    try:
        folder = cache_folder().joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as file:
            file.write(b"\0")  # an empty file can be made on a disk that is full
    except (OSError, RuntimeError) as error:  # RuntimeError: this user has no home
        reason = getattr(error, "strerror", None) or error
        logger.warning(
            f"{folder or 'the cache'} cannot be written ({reason}), so nothing is kept for later runs; set "
            "MULTIMODAL_CACHE or XDG_CACHE_HOME to a folder that can be"
        )
        return folder if folder is not None and _holds_anything(folder) else None
    return folder


def _holds_anything(folder: Path) -> bool:
    with suppress(OSError):
        return any(folder.iterdir())
    return False


def cache_folder() -> Path:
    """``MULTIMODAL_CACHE``, else ``multimodal`` in the user's cache folder."""
    own = os.environ.get("MULTIMODAL_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "multimodal"
