"""What every preprocessor promises, and how one is written to a folder and read back."""

import difflib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from encoders.preprocessing.writing import write_atomically

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

    Raises:
        ValueError: if there is no sample, or an array is not what its spec declares.
    """
    if not samples:
        raise ValueError("there is no sample to stack; a batch has at least one record")
    stacked = {}
    for spec in specs:
        arrays = [_declared(sample, spec) for sample in samples]
        shape = tuple(max(sizes) for sizes in zip(*(array.shape for array in arrays), strict=True))
        out = np.full((len(arrays), *shape), padding.get(spec.name, 0), dtype=spec.dtype)
        for row, array in enumerate(arrays):
            place: tuple[int | slice, ...] = (row, *map(slice, array.shape))
            out[place] = array
        stacked[spec.name] = out
    return stacked


def _declared(sample: Arrays, spec: TensorSpec) -> np.ndarray:
    """The sample's array of that name; a fixed axis of another size would be padded without a word."""
    array, axes = sample.get(spec.name), spec.axes[1:]
    if array is None:
        raise ValueError(f"the sample has no array {spec.name!r}, only {', '.join(sample) or 'none'}")
    fits = array.ndim == len(axes) and all(
        isinstance(axis, str) or axis == size for axis, size in zip(axes, array.shape, strict=True)
    )
    if not fits or array.dtype != spec.dtype:
        raise ValueError(
            f"{spec.name} of one record is {array.dtype} {list(array.shape)} but is declared as {spec.dtype} "
            f"{list(axes)}; correct the preprocessor, or its `tensors`"
        )
    return array


def config_arguments(
    kind: str, config: Mapping[str, Any], known: Collection[str], *, required: Collection[str] = ()
) -> dict[str, Any]:
    """The arguments that a config holds for a preprocessor of this kind; for use in ``from_config``.

    >>> config_arguments("image", {"kind": "image", "size": 64}, ["size", "crop"])
    {'size': 64}

    Raises:
        ValueError: if the config is of another kind, has an unknown key or lacks a required one.
    """
    arguments = dict(config)
    given = arguments.pop("kind", kind)
    if given != kind:
        raise ValueError(f"this config is of the kind {given!r}, not {kind!r}; use preprocessor_from_config")
    for key in arguments:
        if key not in known:
            raise ValueError(f"unknown key {key!r} for the preprocessor {kind!r}{_near(key, known)}")
    lacking = [key for key in required if key not in arguments]
    if lacking:
        raise ValueError(f"the config of the preprocessor {kind!r} lacks {', '.join(lacking)}; write it again")
    return arguments


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """``value`` as an int, or a ValueError that names the argument.

    >>> whole_number("size", 224)
    224
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} is {value!r}; give a whole number, at least {least}")
    return int(value)


def _near(word: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"


PreprocessorFactory = Callable[[dict[str, Any], Mapping[str, str]], Preprocessor]
"""(config, assets: file name -> text) -> preprocessor."""


BUILT_IN = ("image", "text", "words", "audio")


def _builtin(kind: str) -> PreprocessorFactory | None:
    if kind == "image":
        from encoders.preprocessing.image import ImagePreprocessor

        return ImagePreprocessor.from_config
    if kind == "text":
        from encoders.preprocessing.text import TextPreprocessor

        return TextPreprocessor.from_config
    if kind == "words":
        from encoders.preprocessing.words import WordPreprocessor

        return WordPreprocessor.from_config
    if kind == "audio":
        from encoders.preprocessing.audio import AudioPreprocessor

        return AudioPreprocessor.from_config
    return None


def _plugin(kind: str, distribution: str | None, allowed: Collection[str] | None) -> PreprocessorFactory:
    if allowed is not None and kind not in allowed:
        raise LookupError(
            f"this bundle wants the preprocessor {kind!r} from the distribution {distribution or 'unknown'!r}, which "
            f"runs that package's code; if you trust it, load the bundle with allow_plugins=({kind!r},)"
        )
    from importlib.metadata import entry_points  # costs a cold start more than everything else in here

    found = [point for point in entry_points(group=PLUGIN_GROUP) if point.name == kind]
    if not found and distribution is None:
        raise LookupError(
            f"there is no preprocessor {kind!r}, neither built in nor from an installed package{_near(kind, BUILT_IN)}"
        )
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
        ValueError: if the config names no kind, or holds what that kind refuses.
    """
    fields = dict(config)
    kind, distribution = fields.pop("kind", None), fields.pop("distribution", None)
    if not isinstance(kind, str):
        raise ValueError(f"a preprocessor's config needs a `kind`, for example {BUILT_IN[0]!r}; this one has {kind!r}")
    factory = _builtin(kind) or _plugin(kind, distribution, allow_plugins)
    return factory(fields, assets)


def save_preprocessor(preprocessor: Preprocessor, folder: Path) -> None:
    """Writes ``preprocess.json`` and the preprocessor's assets into ``folder``.

    Raises:
        LookupError: if no installed package registers the preprocessor's kind.
        ValueError: if an asset's name is not a plain file name.
    """
    config = preprocessor.to_config()
    if config.get("kind") not in BUILT_IN:
        config["distribution"] = _owner(str(config.get("kind")))
    files = {CONFIG_FILE: json.dumps(config, indent=1, sort_keys=True) + "\n"}
    for name, text in _assets(preprocessor).items():
        if not name or name in files or name != Path(name).name:
            raise ValueError(f"the asset name {name!r} cannot be used; give a plain file name, not {CONFIG_FILE}")
        files[name] = text
    for name, text in files.items():
        write_atomically(folder / name, text.encode())


def load_preprocessor(folder: Path, *, allow_plugins: Collection[str] | None = None) -> Preprocessor:
    """Reads what ``save_preprocessor`` wrote.

    Raises:
        FileNotFoundError: if the folder holds no ``preprocess.json``.
        ValueError: if its files are damaged.
        LookupError: as ``preprocessor_from_config``.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise FileNotFoundError(f"{folder} holds no {CONFIG_FILE}; give the folder that save_preprocessor wrote")
    try:
        files = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir()) if path.is_file()}
        config = json.loads(files.pop(CONFIG_FILE))
    except ValueError as error:
        raise ValueError(f"{folder}: damaged ({error}); copy or write it again") from error
    if not isinstance(config, dict):
        raise ValueError(f"{folder / CONFIG_FILE}: damaged (not an object); copy or write it again")
    return preprocessor_from_config(config, files, allow_plugins=allow_plugins)


def _assets(preprocessor: Preprocessor) -> dict[str, str]:
    assets = getattr(preprocessor, "assets", None)
    return assets() if assets is not None else {}


def _owner(kind: str) -> str:
    from importlib.metadata import entry_points

    for point in entry_points(group=PLUGIN_GROUP):
        if point.name == kind and point.dist is not None:
            return point.dist.name
    raise LookupError(
        f"preprocessor {kind!r} is not registered, so no other process could rebuild it; declare it in your "
        f'package under [project.entry-points."{PLUGIN_GROUP}"]'
    )
