"""Resolution of media paths in a manifest. Never imports torch."""

import itertools
import os
import stat
from pathlib import Path, PureWindowsPath
from typing import Literal

from encoders.preprocessing import UnreadableValueError

Outside = bool | Literal["links"]
"""Media allowed outside their table's folder: none (False), those behind a link, or any (True).

Jobs and runs follow links in their own tables. A bundle does not, since its table may come from a stranger.
"""

MAX_QUOTED = 200
"""Longest quotation of a value in an error message, in characters."""
_ALLOWED = "allow others with allow_outside (in a job data.allow_outside, of predict and explain --allow-outside)"


def quote(value: object) -> str:
    """Quoted text for an error message; a long one is cut.

    >>> quote("images/a.jpg")
    "'images/a.jpg'"
    """
    text = str(value)
    cut = text[:MAX_QUOTED]
    quoted = f"'{cut}'" if cut.isprintable() else repr(cut)
    return quoted if text == cut else f"{quoted}... ({len(text)} characters)"


def media_path(value: str | Path, root: Path | None, *, allow_outside: Outside = False) -> Path:
    """Path of the file that a cell names.

    Args:
        root: folder that relative paths start from. None: the working directory, and any file may be named.
        allow_outside: permits ``..``, absolute paths and links out of ``root``, or only these links ("links").

    Raises:
        UnreadableValueError: if the path leaves ``root``, or is not that of a file.
    """
    text = str(value)
    if "\0" in text:
        raise UnreadableValueError(f"{quote(value)} holds a NUL character, which no path can; correct the cell")
    if "://" in text:
        raise UnreadableValueError(f"{quote(value)} is a web address; download the file and give its path")
    if root is not None and allow_outside is not True:
        _check_inside(text)
    path = Path(text) if root is None else root / text
    try:
        _require_file(text, path)
        if root is not None and not allow_outside:
            _check_links(text, path, root)
    except OSError as error:
        raise UnreadableValueError(f"{quote(value)} cannot be opened ({error.strerror or error})") from error
    except UnicodeEncodeError as error:
        raise UnreadableValueError(f"{quote(value)} is not a file name; correct the cell") from error
    return path


def _check_inside(text: str) -> None:
    windows = PureWindowsPath(text)  # splits at / and at \
    if windows.root or (windows.drive and os.name == "nt"):  # elsewhere "7:30.jpg" is a name like any other
        reason = "is an absolute path; write it relative to the manifest's folder"
    elif ".." in windows.parts:
        reason = "has '..' in it; media must lie inside the manifest's folder"
    else:
        return
    raise UnreadableValueError(f"{quote(text)} {reason}, or {_ALLOWED}")


def _require_file(text: str, path: Path) -> None:
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_symlink():
            reason = "is a link to a file that is not there; fetch that file, or mount its disk"
            raise UnreadableValueError(f"{quote(text)} {reason}") from error
        hint = "; write it with / instead of \\" if "\\" in text and os.sep == "/" else ""
        folder = "the working directory" if path == Path(text) else "the manifest's folder"
        raise UnreadableValueError(f"{quote(text)} does not exist, seen from {folder}{hint}") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not an ordinary file"
        raise UnreadableValueError(f"{quote(text)} is {kind}; give the path of a file")


def _check_links(text: str, path: Path, root: Path) -> None:
    below = itertools.accumulate(Path(text).parts, os.path.join, initial=os.fspath(root))
    if os.name != "nt" and not any(map(os.path.islink, itertools.islice(below, 1, None))):
        return  # the common case: 50 microseconds a path, where following it from the root of the disk takes 120
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise UnreadableValueError(
            f"{quote(text)} leads through a link to a file outside the manifest's folder; a job or run follows links "
            "in its own tables, a bundle does not, since its table may come from a stranger; if you trust it, allow it "
            "with allow_outside (of predict, explain and gallery --allow-outside), or copy the file into the folder"
        )
