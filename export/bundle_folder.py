"""Bundle on disk: a folder of JSON, ONNX and tokenizer.json, complete or rejected. Never imports torch.

``bundle.json`` lists every other file with its size and sha256 and is written last: if it is there, the bundle is
complete. ``SHA256SUMS`` lists the same files and ``bundle.json``, for ``sha256sum --check``. Hashes reveal damage,
not forgery, which would write new ones.
"""

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from encoders.preprocessing.files import is_desktop_file
from export.bundle import (
    BUNDLE_FILE,
    SUMS_FILE,
    Bundle,
    BundleError,
    FileEntry,
    bundle_from_json,
    bundle_to_json,
    parse_json,
)
from multimodal.runtime.files import naming, sha256_of, write_atomically


@contextmanager
def new_bundle(folder: Path) -> Iterator[Path]:
    """Temporary folder beside ``folder``; takes its name if the block succeeds, and is removed otherwise.

    Those that killed processes left for the same folder are removed.

    Raises:
        BundleError: if ``folder`` exists and is not an empty folder.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()) or (folder.is_dir() and any(folder.iterdir())):
        raise BundleError(f"{folder} exists and is not an empty folder; name another one, or remove it first")
    staging = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.partial"
    with ExitStack() as stack:
        with naming(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _locked(folder.parent):  # between mkdir and its lock, a folder looks abandoned
                _remove_abandoned(folder)
                staging.mkdir()
                stack.enter_context(_locked(staging))
        try:
            yield staging
            if folder.is_dir():
                folder.rmdir()
            staging.rename(folder)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


def _remove_abandoned(folder: Path) -> None:
    """Removes the temporary folders that no process writes into any more."""
    pattern = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{8}}\.partial")
    for path in [path for path in folder.parent.iterdir() if pattern.fullmatch(path.name) and path.is_dir()]:
        with _locked(path, wait=False) as is_free:
            if is_free:
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """Holds a folder's lock, which ends with the process; False where another process has it, or there are no locks."""
    try:
        import fcntl
    except ModuleNotFoundError:
        yield False
        return
    opened = None
    try:
        opened = os.open(folder, os.O_RDONLY)
        fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        is_held = True
    except OSError:  # taken, gone, or on a file system without locks
        is_held = False
    try:
        yield is_held
    finally:
        if opened is not None:
            os.close(opened)


def seal_bundle(bundle: Bundle) -> Bundle:
    """Lists and hashes the files of a bundle, and writes ``SHA256SUMS`` and, last, ``bundle.json``."""
    files = {name: FileEntry(size, sha256_of(bundle.folder / name)) for name, size in _listing(bundle.folder).items()}
    bundle = replace(bundle, files=files)
    content = bundle_to_json(bundle)
    write_atomically(bundle.folder / SUMS_FILE, _sums(files, content).encode())
    write_atomically(bundle.folder / BUNDLE_FILE, content)
    return replace(bundle, sha256=hashlib.sha256(content).hexdigest())


def read_bundle(folder: str | Path, *, hash_models: bool = True) -> Bundle:
    """Reads a bundle after checking every file of it: names, kinds, sizes and hashes.

    Args:
        hash_models: False leaves the hashes of the models, nearly all of its bytes, to ``check_hashes``.

    Raises:
        BundleError: if it has no ``bundle.json``, has another schema, or is not as it was written.
    """
    folder = Path(folder)
    if not (folder / BUNDLE_FILE).is_file():
        if not folder.is_dir():
            raise BundleError(f"{folder} is no folder; give that of a bundle, as `multimodal export` writes it")
        if (folder / "model.safetensors").is_file():
            raise BundleError(f"{folder} is a run; make a bundle of it with `multimodal export {folder} --out BUNDLE`")
        raise BundleError(
            f"{folder} is not a bundle: it has no {BUNDLE_FILE}, which an export writes last; export it again"
        )
    found = _listing(folder)
    content = (folder / BUNDLE_FILE).read_bytes()
    bundle = bundle_from_json(parse_json(folder / BUNDLE_FILE), folder, hashlib.sha256(content).hexdigest())
    _check_files(bundle, found)
    check_hashes(bundle, bundle.files.keys() - (set() if hash_models else set(bundle.models.values())))
    if (folder / SUMS_FILE).read_text(encoding="utf-8", errors="replace") != _sums(bundle.files, content):
        raise BundleError(
            f"{folder}: {SUMS_FILE} and {BUNDLE_FILE} do not agree, so one of them was changed; copy the bundle again"
        )
    return bundle


def check_hashes(bundle: Bundle, names: Iterable[str]) -> None:
    """Reads these files, two at a time.

    Raises:
        BundleError: if one is not as it was written.
    """
    names = sorted(names)
    with ThreadPoolExecutor(max_workers=2) as pool:
        digests = pool.map(lambda name: sha256_of(bundle.path(name)), names)
        for name, digest in zip(names, digests, strict=True):
            if digest != bundle.files[name].sha256:
                raise BundleError(f"{bundle.folder}: {name} is damaged: its sha256 differs; copy the bundle again")


def _check_files(bundle: Bundle, found: Mapping[str, int]) -> None:
    for name in sorted(found.keys() - bundle.files.keys()):
        raise BundleError(f"{bundle.folder}: {name} is not listed in {BUNDLE_FILE}; remove it")
    for model in bundle.models.values():
        bundle.path(model)
    for name in sorted(bundle.files.keys() - found.keys()):
        raise BundleError(f"{bundle.folder}: {name} is missing; copy the bundle again")
    for name, entry in bundle.files.items():
        if found[name] != entry.size:
            raise BundleError(
                f"{bundle.folder}: {name} has {found[name]} bytes, and {entry.size} were written; copy the bundle again"
            )


def _listing(folder: Path) -> dict[str, int]:
    """Size of every file but the two that list the others, and a desktop's; rejects anything but files and folders."""
    found: dict[str, int] = {}
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as opened:
            entries = list(opened)
        for entry in entries:
            name = Path(entry.path).relative_to(folder).as_posix()
            if entry.is_symlink():
                raise BundleError(f"{folder}: {name} is a link; copy the bundle with what its links point to")
            if entry.is_dir(follow_symlinks=False):
                pending.append(Path(entry.path))
            elif is_desktop_file(entry.name):
                continue
            elif entry.is_file(follow_symlinks=False):
                found[name] = entry.stat(follow_symlinks=False).st_size
            else:
                raise BundleError(f"{folder}: {name} is neither a file nor a folder; remove it")
    if SUMS_FILE not in found and BUNDLE_FILE in found:
        raise BundleError(f"{folder}: {SUMS_FILE} is missing; copy the bundle again")
    return {name: found[name] for name in sorted(found) if name not in (BUNDLE_FILE, SUMS_FILE)}


def _sums(files: Mapping[str, FileEntry], bundle_json: bytes) -> str:
    digests = {name: entry.sha256 for name, entry in files.items()}
    digests[BUNDLE_FILE] = hashlib.sha256(bundle_json).hexdigest()
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
