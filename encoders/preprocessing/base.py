"""What every preprocessor promises, and how one is written to a folder and read back."""

import importlib.metadata
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

Arrays = dict[str, np.ndarray]
CONFIG_FILE = "preprocess.json"
PLUGIN_GROUP = "multimodal.preprocessors"


class UnreadableValueError(ValueError):
    """A raw value that was given but cannot be used; its message says why and what is allowed."""


@dataclass(frozen=True)
class TensorSpec:
    """One array that a preprocessor gives to its encoder, and one input of the exported graph.

    ``axes`` starts with ``"batch"``; a number is a fixed size, a name is a size that varies between batches.

    >>> TensorSpec("pixels", "uint8", ("batch", 3, 224, 224)).axes[1]
    3
    """

    name: str
    dtype: str
    axes: tuple[int | str, ...]


@runtime_checkable
class Preprocessor(Protocol):
    """Turns one raw value into arrays; the same object serves training, evaluation and production.

    Deterministic and torch-free. Attributes: ``modality`` ("image", "text", "audio" or another word) and
    ``tensors``, which declares every array: nothing about the graph's inputs is guessed.
    """

    modality: str
    tensors: tuple[TensorSpec, ...]

    def __call__(self, raw: Any) -> Arrays:
        """Arrays of one record, without the batch axis. Raises UnreadableValueError."""
        ...

    def blank(self) -> Arrays:
        """Arrays that stand in for a missing value; what they hold never reaches an answer."""
        ...

    def stack(self, samples: Sequence[Arrays]) -> Arrays:
        """Pads the varying axes to the longest sample and adds the batch axis."""
        ...

    def to_config(self) -> dict[str, Any]:
        """JSON that rebuilds this preprocessor; its ``kind`` is a registered name, never a path to import."""
        ...


class Assets(Protocol):
    """What a preprocessor adds to the contract when it needs files beside its JSON (a tokenizer)."""

    def assets(self) -> dict[str, str]:
        """File name -> text content."""
        ...


def stack_arrays(samples: Sequence[Arrays], specs: Sequence[TensorSpec], padding: Mapping[str, float]) -> Arrays:
    """Stacks samples along a new first axis, padding each varying axis at its end.

    >>> spec = TensorSpec("ids", "int64", ("batch", "tokens"))
    >>> stack_arrays([{"ids": np.array([1, 2])}, {"ids": np.array([3])}], [spec], {"ids": 0})["ids"].tolist()
    [[1, 2], [3, 0]]
    """
    stacked = {}
    for spec in specs:
        arrays = [sample[spec.name] for sample in samples]
        shape = tuple(max(sizes) for sizes in zip(*(array.shape for array in arrays), strict=True))
        out = np.full((len(arrays), *shape), padding.get(spec.name, 0), dtype=spec.dtype)
        for row, array in enumerate(arrays):
            out[(row, *(slice(size) for size in array.shape))] = array
        stacked[spec.name] = out
    return stacked


PreprocessorFactory = Callable[[dict[str, Any], Mapping[str, str]], Preprocessor]
"""(config, assets: file name -> text) -> preprocessor."""


def _builtin(kind: str) -> PreprocessorFactory | None:
    if kind == "image":
        from encoders.preprocessing.image import ImagePreprocessor

        return ImagePreprocessor.from_config
    if kind == "text":
        from encoders.preprocessing.text import TextPreprocessor

        return TextPreprocessor.from_config
    if kind == "audio":
        from encoders.preprocessing.audio import AudioPreprocessor

        return AudioPreprocessor.from_config
    return None


def _plugin(kind: str, distribution: str, allowed: Collection[str] | None) -> PreprocessorFactory:
    if allowed is not None and kind not in allowed:
        raise LookupError(
            f"this bundle wants the preprocessor {kind!r} from the distribution {distribution!r}, which runs that "
            f"package's code; if you trust it, load the bundle with allow_plugins=({kind!r},)"
        )
    found = [point for point in importlib.metadata.entry_points(group=PLUGIN_GROUP) if point.name == kind]
    if not found:
        raise LookupError(f"preprocessor {kind!r} is not installed; run: pip install {distribution}")
    if len(found) > 1:
        owners = " and ".join(sorted(str(point.dist and point.dist.name) for point in found))
        raise LookupError(f"preprocessor {kind!r} is registered twice, by {owners}; uninstall one of them")
    return found[0].load().from_config


def preprocessor_from_config(
    config: Mapping[str, Any], assets: Mapping[str, str], *, allow_plugins: Collection[str] | None = None
) -> Preprocessor:
    """Rebuilds a preprocessor from what ``to_config`` and ``assets`` gave.

    Args:
        allow_plugins: kinds from other distributions that may be loaded; None allows every installed one.

    Raises:
        LookupError: if the kind is neither built in nor an installed and allowed plug-in.
    """
    fields = dict(config)
    kind = str(fields.pop("kind", None))
    distribution = str(fields.pop("distribution", "unknown"))
    factory = _builtin(kind) or _plugin(kind, distribution, allow_plugins)
    return factory(fields, assets)


def save_preprocessor(preprocessor: Preprocessor, folder: Path) -> None:
    """Writes ``preprocess.json`` and the preprocessor's assets into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    config = preprocessor.to_config()
    if _builtin(config["kind"]) is None:
        config["distribution"] = _owner(config["kind"])
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for name, text in _assets(preprocessor).items():
        (folder / name).write_text(text, encoding="utf-8")


def load_preprocessor(folder: Path, *, allow_plugins: Collection[str] | None = None) -> Preprocessor:
    """Reads what ``save_preprocessor`` wrote."""
    config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    files = [path for path in sorted(folder.iterdir()) if path.name != CONFIG_FILE]
    assets = {path.name: path.read_text(encoding="utf-8") for path in files}
    return preprocessor_from_config(config, assets, allow_plugins=allow_plugins)


def _assets(preprocessor: Preprocessor) -> dict[str, str]:
    assets = getattr(preprocessor, "assets", None)
    return assets() if assets is not None else {}


def _owner(kind: str) -> str:
    for point in importlib.metadata.entry_points(group=PLUGIN_GROUP):
        if point.name == kind and point.dist is not None:
            return point.dist.name
    raise LookupError(
        f"preprocessor {kind!r} is not registered, so no other process could rebuild it; declare it in your "
        f'package under [project.entry-points."{PLUGIN_GROUP}"]'
    )
