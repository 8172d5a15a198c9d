"""Resolution of media paths in a manifest. Never imports torch."""

import itertools
import os
import stat
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PureWindowsPath
from typing import Literal
from urllib.parse import unquote

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

    Where there is no such file, another spelling of the path is taken that names one: without spaces around it, with
    ``%20`` and its like decoded, in Unicode's other form; ``file:///a.jpg`` is the path ``/a.jpg``. ``respelling``
    tells.

    Args:
        root: folder that relative paths start from. None: the working directory, and any file may be named.
        allow_outside: permits ``..``, absolute paths and links out of ``root``, or only these links ("links").

    Raises:
        UnreadableValueError: if the path leaves ``root``, or is not that of a file.
    """
    text = _without_scheme(str(value))
    base = Path() if root is None else root
    is_limited = root is not None and allow_outside is not True
    if is_limited:
        _check_inside(text)
    if not os.path.lexists(base / text):
        text = next((other for other in _spellings(text) if os.path.exists(base / other)), text)
        if is_limited:
            _check_inside(text)
    path = base / text
    try:
        _require_file(str(value), text, path)
        if root is not None and not allow_outside:
            _check_links(text, path, root)
    except OSError as error:
        raise UnreadableValueError(f"{quote(value)} cannot be opened ({error.strerror or error})") from error
    except UnicodeEncodeError as error:
        raise UnreadableValueError(f"{quote(value)} is not a file name; correct the cell") from error
    return path


def respelling(value: str | Path, path: Path, root: Path | None) -> str | None:
    """Note that ``media_path`` has taken another spelling of a cell's path; None where it is the cell's own.

    >>> respelling("a%20b.jpg", Path("images/a b.jpg"), Path("images"))
    "'a%20b.jpg' is read as 'a b.jpg'"
    >>> respelling("a.jpg", Path("images/a.jpg"), Path("images")) is None
    True
    """
    base = Path() if root is None else root
    if path == base / str(value):
        return None
    written, read = str(value), str(path.relative_to(base) if path.is_relative_to(base) else path)
    if unicodedata.normalize("NFC", written) == unicodedata.normalize("NFC", read):  # they look the same
        return f"{written!a} is read as {read!a}, another form of Unicode (NFC, NFD)"
    how = ", without the spaces around it" if written.strip() == read else ""
    return f"{quote(written)} is read as {quote(read)}{how}"


def _without_scheme(text: str) -> str:
    """The path, of a ``file:`` address, too."""
    if text.lower().startswith("file:///"):
        text = unquote(text[len("file://") :])
    if "\0" in text:
        raise UnreadableValueError(f"{quote(text)} holds a NUL character, which no path can; correct the cell")
    if text.lower().startswith("file:"):
        raise UnreadableValueError(f"{quote(text)} is no path; leave file: out, or write file:/// and the whole path")
    if "://" in text:
        raise UnreadableValueError(f"{quote(text)} is a web address; download the file and give its path")
    return text


def _spellings(text: str) -> Iterator[str]:
    decoded = unquote(text)
    for other in (text, text.strip(), decoded, decoded.strip()):
        if other.strip() and "\0" not in other:
            yield from (other, unicodedata.normalize("NFC", other), unicodedata.normalize("NFD", other))


def _check_inside(text: str) -> None:
    windows = PureWindowsPath(text)  # splits at / and at \
    if windows.root or (windows.drive and os.name == "nt"):  # elsewhere "7:30.jpg" is a name like any other
        reason = "is an absolute path; write it relative to the manifest's folder"
    elif ".." in windows.parts:
        reason = "has '..' in it; media must lie inside the manifest's folder"
    else:
        return
    raise UnreadableValueError(f"{quote(text)} {reason}, or {_ALLOWED}")


def _require_file(written: str, text: str, path: Path) -> None:
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_symlink():
            reason = "is a link to a file that is not there; fetch that file, or mount its disk"
            raise UnreadableValueError(f"{quote(written)} {reason}") from error
        near = _near(text, path)
        hint = f"; did you mean {quote(near)}?" if near else ""
        hint = "; write it with / instead of \\" if "\\" in text and os.sep == "/" else hint
        folder = "the working directory" if path == Path(text) else "the manifest's folder"
        raise UnreadableValueError(f"{quote(written)} does not exist, seen from {folder}{hint}") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not an ordinary file"
        raise UnreadableValueError(f"{quote(written)} is {kind}; give the path of a file")


def _near(text: str, path: Path) -> str | None:
    """The path of the only file beside it that differs in case, separators or suffix alone."""
    look = _look(path.name)
    try:
        names = _names_by_look(path.parent, os.stat(path.parent).st_mtime_ns).get(look, ()) if look else ()
    except OSError:
        return None
    return text[: -len(path.name)] + names[0] if len(names) == 1 and text.endswith(path.name) else None


@lru_cache(maxsize=4)
def _names_by_look(folder: Path, changed_ns: int) -> dict[str, list[str]]:
    """Look -> names in a folder, which is listed again when it has changed."""
    names: dict[str, list[str]] = {}
    for name in os.listdir(folder):
        names.setdefault(_look(name), []).append(name)
    return names


def _look(name: str) -> str:
    stem = unicodedata.normalize("NFKC", unquote(name)).casefold().rpartition(".")[0] or name.casefold()
    return "".join(filter(str.isalnum, stem))


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
