"""The bundle: a folder of JSON, ONNX and tokenizer.json, whole or refused. Never imports torch.

``bundle.json`` lists every other file with its size and sha256 and is written last: where it is, the bundle is
whole. ``SHA256SUMS`` lists the same files and ``bundle.json``, for ``sha256sum --check``. Hashes find damage, not a
forger, who would write them anew.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from encoders.preprocessing import TensorSpec

SCHEMA = 1
BUNDLE_FILE, SUMS_FILE, PARITY_FILE = "bundle.json", "SHA256SUMS", "parity.json"
MODEL_FILES = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
"""Precision -> its file; a bundle always has the first."""
NAME_PATTERN = r"[a-z][a-z0-9_]{0,39}"

_MAX_JSON_BYTES = 16_000_000  # a real one has some kB


class BundleError(ValueError):
    """A folder that is no bundle, or is not as it was written."""


@dataclass(frozen=True)
class FileEntry:
    """What a file must be."""

    size: int
    sha256: str


@dataclass(frozen=True)
class BundleInput:
    """One input of the model."""

    column: str
    """Column of manifests that holds its values."""
    modality: str
    tensors: tuple[TensorSpec, ...]
    """The graph's inputs ``<input>.<tensor>``; ``<input>.present``, bool [b], comes beside them."""


@dataclass(frozen=True)
class Bundle:
    """What ``bundle.json`` says."""

    folder: Path
    name: str
    """Of the job that trained it."""
    inputs: dict[str, BundleInput]
    tasks: dict[str, str]
    """Task -> type; ``tasks/<task>.json`` holds its decoding."""
    models: dict[str, str]
    """Precision -> ONNX file: some of ``MODEL_FILES``."""
    opset: int
    libraries: dict[str, str]
    """Versions that wrote it."""
    embedding: bool = False
    """Whether the graph has the output ``embedding``."""
    files: dict[str, FileEntry] = field(default_factory=dict)
    """Every file but ``bundle.json`` and ``SHA256SUMS``; names have forward slashes."""

    def path(self, name: str) -> Path:
        """A file of the bundle.

        Raises:
            BundleError: if the bundle does not list it.
        """
        if name not in self.files:
            raise BundleError(f"{self.folder}: the bundle lists no {name}; export it again")
        return self.folder / name

    def at(self, folder: Path) -> "Bundle":
        """The same bundle in another place."""
        return replace(self, folder=folder)

    def read_json(self, name: str) -> Any:
        """The content of one of its JSON files."""
        return _parse(self.path(name))


@contextmanager
def new_bundle(folder: Path) -> Iterator[Path]:
    """A folder beside ``folder`` to write into; takes its name when the block ends well, and vanishes otherwise.

    Raises:
        BundleError: if ``folder`` exists and is not an empty folder.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()) or (folder.is_dir() and any(folder.iterdir())):
        raise BundleError(f"{folder} exists and is not an empty folder; name another one, or remove it first")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.partial"
    staging.mkdir()
    try:
        yield staging
        if folder.is_dir():
            folder.rmdir()
        staging.rename(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def seal_bundle(bundle: Bundle) -> Bundle:
    """Lists and hashes what is in the bundle's folder, and writes ``SHA256SUMS`` and, last, ``bundle.json``."""
    files = {name: FileEntry(size, _sha256(bundle.folder / name)) for name, size in _listing(bundle.folder).items()}
    bundle = replace(bundle, files=files)
    content = _to_json(bundle)
    (bundle.folder / SUMS_FILE).write_text(_sums(files, content), encoding="utf-8")
    with (bundle.folder / BUNDLE_FILE).open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return bundle


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
    bundle = _from_json(_parse(folder / BUNDLE_FILE), folder)
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
        digests = pool.map(lambda name: _sha256(bundle.path(name)), names)
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
    """Size of every file but the two that list the others; refuses whatever is neither file nor folder."""
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
            elif entry.is_file(follow_symlinks=False):
                found[name] = entry.stat(follow_symlinks=False).st_size
            else:
                raise BundleError(f"{folder}: {name} is neither a file nor a folder; remove it")
    if SUMS_FILE not in found and BUNDLE_FILE in found:
        raise BundleError(f"{folder}: {SUMS_FILE} is missing; copy the bundle again")
    return {name: found[name] for name in sorted(found) if name not in (BUNDLE_FILE, SUMS_FILE)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sums(files: Mapping[str, FileEntry], bundle_json: bytes) -> str:
    digests = {name: entry.sha256 for name, entry in files.items()}
    digests[BUNDLE_FILE] = hashlib.sha256(bundle_json).hexdigest()
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def _parse(path: Path) -> Any:
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise BundleError(f"{path} has more than {_MAX_JSON_BYTES // 10**6} MB, which no export writes; export again")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not JSON ({error}); copy the bundle again") from error


def _to_json(bundle: Bundle) -> bytes:
    content = {"schema": SCHEMA, **asdict(bundle)}
    del content["folder"]
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _from_json(content: Any, folder: Path) -> Bundle:
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise BundleError(
            f"{folder} has bundle schema {schema!r}, and this version reads {SCHEMA}; "
            "install the version that wrote it, or export again"
        )
    try:
        fields = {key: value for key, value in content.items() if key != "schema"}
        fields["inputs"] = {name: _input(entry) for name, entry in fields["inputs"].items()}
        fields["files"] = {_safe(name): FileEntry(**entry) for name, entry in fields["files"].items()}
        bundle = Bundle(folder=folder, **fields)
        _check_fields(bundle)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{folder}: {BUNDLE_FILE} cannot be used ({error}); copy the bundle again") from error
    return bundle


def _check_fields(bundle: Bundle) -> None:
    for texts in (bundle.tasks, bundle.models, bundle.libraries):
        if not all(isinstance(part, str) for pair in texts.items() for part in pair):
            raise ValueError(f"{texts!r} is no table of texts")
    for field_name, kind in (("name", str), ("opset", int), ("embedding", bool)):
        if not isinstance(getattr(bundle, field_name), kind):
            raise ValueError(f"its {field_name} is {getattr(bundle, field_name)!r}")
    for name in (*bundle.inputs, *bundle.tasks):
        if not re.fullmatch(NAME_PATTERN, name):
            raise ValueError(f"{name!r} is not a name of an input or a task")
    # a model is hashed when it is opened: no other file may pass for one, nor may one have a format of its own
    if "fp32" not in bundle.models or not bundle.models.items() <= MODEL_FILES.items():
        raise ValueError(
            f"its models are {bundle.models}, and a bundle has fp32, and may have others, of {MODEL_FILES}"
        )


def _input(entry: Mapping[str, Any]) -> BundleInput:
    for key in ("column", "modality"):
        if not isinstance(entry[key], str):
            raise ValueError(f"the {key} of an input is {entry[key]!r}")
    tensors = (TensorSpec(spec["name"], spec["dtype"], tuple(spec["axes"])) for spec in entry["tensors"])
    return BundleInput(entry["column"], entry["modality"], tuple(tensors))


def _safe(name: str) -> str:
    """A file name that stays inside the folder, on any operating system."""
    path = PurePosixPath(name)
    inside = name and not path.is_absolute() and not {"..", "."} & set(name.split("/"))
    if not inside or str(path) != name or "\\" in name or ":" in name or "\0" in name:
        raise ValueError(f"the file name {name!r} is absolute, has '..', or is not plain")
    return name
