"""Contract of a preprocessor, and what all of them share."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

Arrays = dict[str, np.ndarray]


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
        """JSON that rebuilds this preprocessor; its ``kind`` is a registered name, never a path to import.

        One that needs files beside it (a tokenizer) also has ``assets() -> dict[str, str]``: file name -> text.
        """
        ...


class Ranges(Protocol):
    """Addition to the contract for a preprocessor whose whole numbers are an index or a mask.

    Arrays that others made are then checked before they reach the encoder. Attribute: ``largest_values``, tensor ->
    largest value in it; the smallest is 0.
    """

    largest_values: Mapping[str, int]


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
        ValueError: if the config is of another kind, has an unknown key or misses a required one.
    """
    arguments = dict(config)
    given = arguments.pop("kind", kind)
    if given != kind:
        raise ValueError(f"this config is of the kind {given!r}, not {kind!r}; use preprocessor_from_config")
    for key in arguments:
        if key not in known:
            raise ValueError(f"unknown key {key!r} for the preprocessor {kind!r}{nearest_hint(key, known)}")
    missing = [key for key in required if key not in arguments]
    if missing:
        raise ValueError(f"the config of the preprocessor {kind!r} has no {', '.join(missing)}; write it again")
    return arguments


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """``value`` as an int, or a ValueError that names the argument.

    >>> whole_number("size", 224)
    224
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} is {value!r}; give a whole number, at least {least}")
    return int(value)


def nearest_hint(word: str, known: Collection[str]) -> str:
    """End of an error message: the nearest known word, or all of them.

    >>> nearest_hint("sise", ["size", "crop"])
    "; did you mean 'size'?"
    """
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
