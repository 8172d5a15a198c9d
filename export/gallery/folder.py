"""Gallery on disk: ``gallery.json`` and one array, no pickle; consistent at any time, for several processes.

A change writes the array under a new name, then ``gallery.json``, which names it, in one step. Writers take turns by
a lock on ``.lock``, which ends with their process; readers need none.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from export.gallery.contents import Contents, checked_vectors
from export.gallery.refusal import Refusal
from export.gallery.source import GalleryError, VectorSource
from multimodal.runtime.files import write_atomically

FORMAT = 1
GALLERY_FILE, LOCK_FILE = "gallery.json", ".lock"
_VECTORS = re.compile(r"vectors-\d+\.npy")
_TRIES = 20
"""Attempts to read a gallery that others change meanwhile."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Waits until no other process or thread changes the gallery; makes its folder.

    Raises:
        GalleryError: if the folder holds something else, or this system has no file locks.
    """
    try:
        import fcntl
    except ModuleNotFoundError as error:
        raise GalleryError("this system has no file locks; change galleries on Linux or macOS") from error
    strangers = folder.is_dir() and not (folder / GALLERY_FILE).is_file() and {p.name for p in folder.iterdir()}
    if strangers and strangers - {LOCK_FILE} and not any(_VECTORS.fullmatch(name) for name in strangers):
        raise GalleryError(f"{folder} is not empty and holds no {GALLERY_FILE}; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def own_files(folder: Path) -> list[tuple[str, Path]]:
    """Files of a gallery, for ``refuse_overwriting``."""
    return [("a file of the gallery", path) for path in [folder / GALLERY_FILE, *folder.glob("vectors-*.npy")]]


def read_contents(folder: Path) -> Contents:
    """Newest state.

    Raises:
        GalleryError: if the folder holds no gallery, one of another version, or a damaged one.
    """
    for _ in range(_TRIES):
        description = _describe(folder)
        try:
            content = (folder / description["vectors"]["file"]).read_bytes()
        except FileNotFoundError:
            continue  # another process has just replaced it by a newer one
        return _contents(folder, description, content)
    raise GalleryError(f"{folder} is damaged: {description['vectors']['file']} is missing; {_REPAIR}")


def write_contents(folder: Path, contents: Contents) -> None:
    """Writes a state; the lock must be held."""
    name, buffer = f"vectors-{contents.revision}.npy", io.BytesIO()
    np.save(buffer, contents.vectors, allow_pickle=False)
    content = buffer.getvalue()
    description = {
        "format": FORMAT,
        "source": {"width" if key == "dim" else key: value for key, value in asdict(contents.source).items()},
        "revision": contents.revision,
        "refusal": None if contents.refusal is None else asdict(contents.refusal),
        "vectors": {"file": name, "sha256": hashlib.sha256(content).hexdigest()},
        "products": contents.products,
    }
    description["sha256"] = _digest(description)
    write_atomically(folder / name, content)
    write_atomically(folder / GALLERY_FILE, (json.dumps(description, indent=1) + "\n").encode())
    for path in folder.iterdir():
        if _VECTORS.fullmatch(path.name) and path.name != name:
            path.unlink(missing_ok=True)


def _digest(description: dict[str, Any]) -> str:
    """sha256 of the content of ``gallery.json``, in its order, which is that of the vectors."""
    return hashlib.sha256(json.dumps(description).encode()).hexdigest()


_REPAIR = "copy it again, or enrol the products anew in another folder"


def _describe(folder: Path) -> dict[str, Any]:
    path = folder / GALLERY_FILE
    if not path.is_file():
        raise GalleryError(f"{folder} is no gallery: it has no {GALLERY_FILE}; make one with `multimodal gallery add`")
    try:
        description = json.loads(path.read_bytes())
    except ValueError as error:
        raise GalleryError(f"{path} is not JSON ({error}); {_REPAIR}") from error
    found = description.get("format") if isinstance(description, dict) else None
    if found != FORMAT:
        raise GalleryError(
            f"{folder} has gallery format {found!r}, and this version reads {FORMAT}; install the version that wrote it"
        )
    digest = description.pop("sha256", None)  # earlier galleries have none
    if digest is not None and digest != _digest(description):
        raise GalleryError(f"{path} is damaged: its sha256 differs; {_REPAIR}")
    try:
        if not _VECTORS.fullmatch(description["vectors"]["file"]):
            raise ValueError(f"{description['vectors']['file']!r} is no name of vectors")
    except (KeyError, TypeError, ValueError) as error:
        raise GalleryError(f"{path} cannot be used ({error}); {_REPAIR}") from error
    return description


def _source(entry: dict[str, Any]) -> VectorSource:
    return VectorSource(**{"dim" if key == "width" else key: value for key, value in entry.items()})


def _contents(folder: Path, description: dict[str, Any], content: bytes) -> Contents:
    if hashlib.sha256(content).hexdigest() != description["vectors"].get("sha256"):
        raise GalleryError(f"{folder} is damaged: the sha256 of its vectors differs; {_REPAIR}")
    try:
        source, refusal = _source(description["source"]), description["refusal"]
        products = {str(label): int(count) for label, count in description["products"].items()}
        vectors = checked_vectors(np.load(io.BytesIO(content), allow_pickle=False), source.dim)
        if sum(products.values()) != len(vectors) or min(products.values(), default=1) < 1:
            raise ValueError(f"there are {len(vectors)} vectors for {sum(products.values())} that products have")
        refusal = None if refusal is None else Refusal(**refusal)
        return Contents(source, products, vectors, refusal, int(description["revision"]))
    except (KeyError, TypeError, ValueError, AttributeError, EOFError) as error:
        raise GalleryError(f"{folder / GALLERY_FILE} cannot be used ({error}); {_REPAIR}") from error
