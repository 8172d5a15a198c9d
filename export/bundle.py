"""Description of a bundle: the content of ``bundle.json``, and its limits. Never imports torch."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from encoders.preprocessing import TensorSpec
from multimodal.decoding import EMBEDDING
from multimodal.task_types.registry import gives_vectors

SCHEMA = 1
BUNDLE_FILE, SUMS_FILE, PARITY_FILE, PROVENANCE_FILE = "bundle.json", "SHA256SUMS", "parity.json", "provenance.json"
MODEL_FILES = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
"""Precision -> its file; a bundle always has the first."""
NAME_PATTERN = r"[a-z][a-z0-9_]{0,39}"

_MAX_JSON_BYTES = 16_000_000  # a real one has some kB


class BundleError(ValueError):
    """Folder that is no bundle, or not as it was written."""


@dataclass(frozen=True)
class FileEntry:
    """Size and hash of a file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class BundleInput:
    """One input of the model."""

    column: str
    """Column of manifests that holds its values."""
    modality: str
    tensors: tuple[TensorSpec, ...]
    """Inputs ``<input>.<tensor>`` of the graph, beside ``<input>.present``, bool [b]."""


@dataclass(frozen=True)
class Bundle:
    """Content of ``bundle.json``."""

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
    """True if the graph has the output ``embedding``."""
    sha256: str = ""
    """Of ``bundle.json``, which tells it from every other bundle."""
    files: dict[str, FileEntry] = field(default_factory=dict)
    """Every file but ``bundle.json`` and ``SHA256SUMS``; names have forward slashes."""

    def path(self, name: str) -> Path:
        """Path of one of the bundle's files.

        Raises:
            BundleError: if the bundle does not list it.
        """
        if name not in self.files:
            raise BundleError(f"{self.folder}: the bundle lists no {name}; export it again")
        return self.folder / name

    @property
    def outputs(self) -> list[str]:
        """Names of the graph's outputs, in order."""
        return [*self.tasks, *([EMBEDDING] if self.embedding else [])]

    def vector_output(self, task: str | None = None) -> str:
        """Output that represents a record as a vector: that of the only embedding task, else the fused vector.

        Args:
            task: an embedding task, or ``embedding`` for the fused vector; None chooses.

        Raises:
            LookupError: if the bundle has no such output of vectors.
            ValueError: if it has none at all, or several to choose from.
        """
        tasks = [name for name, kind in self.tasks.items() if gives_vectors(kind)]
        outputs = [*tasks, *([EMBEDDING] if self.embedding else [])]
        if not outputs:
            raise ValueError(
                f"{self.folder} gives no vectors: it has neither an embedding task nor the fused vector; export its "
                "run again with `multimodal export RUN --out BUNDLE --embedding` (in Python: embedding=True)"
            )
        if task is not None and task not in outputs:
            raise LookupError(f"{self.folder} gives no vectors called {task!r}; there are {', '.join(outputs)}")
        if task is None and len(tasks) > 1:
            raise ValueError(f"{self.folder} has several embedding tasks; name one of {', '.join(outputs)} with --task")
        return outputs[0] if task is None else task

    def vector_digest(self) -> str:
        """sha256 of all that vectors depend on: the float32 graph and the preprocessing of its inputs."""
        names = [name for name in sorted(self.files) if name.startswith("inputs/") or name == self.models["fp32"]]
        lines = "".join(f"{self.files[name].sha256}  {name}\n" for name in names)
        return hashlib.sha256(lines.encode()).hexdigest()

    def identity(self) -> dict[str, str | None]:
        """Name, sha256 and time of export (ISO 8601, ``created``; None in earlier ones), which tell it from others."""
        provenance = self.read_json(PROVENANCE_FILE) if PROVENANCE_FILE in self.files else None
        created = provenance.get("created") if isinstance(provenance, dict) else None
        return {"name": self.name, "sha256": self.sha256, "created": created if isinstance(created, str) else None}

    def read_json(self, name: str) -> Any:
        """Content of one of its JSON files."""
        return parse_json(self.path(name))


def parse_json(path: Path) -> Any:
    """Content of one of a bundle's JSON files.

    Raises:
        BundleError: if it is none, or larger than any that an export writes.
    """
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise BundleError(f"{path} has more than {_MAX_JSON_BYTES // 10**6} MB, which no export writes; export again")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not JSON ({error}); copy the bundle again") from error


def bundle_to_json(bundle: Bundle) -> bytes:
    """Bundle as ``bundle.json``."""
    content = {"schema": SCHEMA, **asdict(bundle)}
    del content["folder"], content["sha256"]
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def bundle_from_json(content: Any, folder: Path, sha256: str) -> Bundle:
    """Bundle from the content of ``bundle.json``.

    Args:
        sha256: of that file.

    Raises:
        BundleError: if it has another schema, or content that no export writes.
    """
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
        bundle = Bundle(folder=folder, sha256=sha256, **fields)
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
    """Checks that a file name stays inside the folder, on any operating system."""
    path = PurePosixPath(name)
    inside = name and not path.is_absolute() and not {"..", "."} & set(name.split("/"))
    if not inside or str(path) != name or "\\" in name or ":" in name or "\0" in name:
        raise ValueError(f"the file name {name!r} is absolute, has '..', or is not plain")
    return name
