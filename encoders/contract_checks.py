"""Checks of an encoder's attributes, its preprocessor's JSON and its list of parameters."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import nn

from encoders.base import Encoder
from encoders.preprocessing import Arrays, Preprocessor, TensorSpec, preprocessor_from_config


class ContractError(AssertionError):
    """An encoder breaks a promise of ``encoders.base.Encoder``; the message names it and what to do."""


def check_attributes(encoder: Encoder) -> None:
    """Checks the attributes that models, export and serving read, and that all tensors are declared."""
    require(isinstance(encoder, Encoder), encoder, "is an encoders.base.Encoder", "subclass it")
    kinds = {"modality": str, "embed_dim": int, "preprocessor": Preprocessor, "ignores_padding": bool}
    for name, kind in kinds.items():
        given = getattr(encoder, name, None)
        what = f"it is {given!r}; set it in __init__, after super().__init__()"
        require(isinstance(given, kind), encoder, f"sets `{name}`", what)
    sizes = f"they are {encoder.modality!r} and {encoder.embed_dim}"
    require(encoder.modality != "" and encoder.embed_dim > 0, encoder, "has a modality and an embed_dim", sizes)
    specs = encoder.preprocessor.tensors
    names = [spec.name for spec in specs]
    require(
        bool(names) and len(set(names)) == len(names) and "present" not in names,
        encoder,
        "declares its tensors",
        f"preprocessor.tensors names {names}; name each once, and not `present`, which collate writes",
    )
    for spec in specs:
        require(
            spec.axes[:1] == ("batch",),
            encoder,
            "has the batch as every tensor's first axis",
            f"{spec.name} is declared as {spec.axes}; begin with 'batch'",
        )
    require(
        encoder.preprocessor.modality == encoder.modality,
        encoder,
        "has its preprocessor's modality",
        f"{encoder.modality!r} and {encoder.preprocessor.modality!r}; set them alike",
    )


def check_preprocessor(encoder: Encoder, raws: Sequence[Any]) -> list[Arrays]:
    """Raw values become the declared arrays, the same after a trip through JSON; returns them, one dict a value."""
    preprocessor = encoder.preprocessor
    with contract_step(encoder, "preprocesses raw values"):
        records = [preprocessor(raw) for raw in raws]
        batch = preprocessor.stack(records)
    with contract_step(encoder, "has a blank that stands in for a missing value"):
        blank = preprocessor.stack([preprocessor.blank()])
    for arrays in (batch, blank):
        _check_declared(encoder, preprocessor.tensors, arrays)
    with contract_step(encoder, "has a preprocessor that JSON rebuilds"):
        config = json.loads(json.dumps(preprocessor.to_config()))
        assets: dict[str, str] = getattr(preprocessor, "assets", dict)()
        rebuilt = preprocessor_from_config(config, assets)
        again = rebuilt.stack([rebuilt(raw) for raw in raws])
        blank_again = rebuilt.stack([rebuilt.blank()])
    same = (
        rebuilt.tensors == preprocessor.tensors
        and all(np.array_equal(again[name], batch[name]) for name in batch)
        and all(np.array_equal(blank_again[name], blank[name]) for name in blank)
    )
    fix = "another array came out; put every setting into to_config, and keep preprocessing free of chance"
    require(same, encoder, "has a preprocessor that JSON rebuilds", fix)
    return records


def _check_declared(encoder: Encoder, specs: Sequence[TensorSpec], batch: Arrays) -> None:
    """Every array is what its spec says, and axes of one name have one size."""
    promise = "gives the tensors that preprocessor.tensors declares"
    declared = [spec.name for spec in specs]
    require(sorted(batch) == sorted(declared), encoder, promise, f"{sorted(batch)}, declared {declared}")
    sizes: dict[str, int] = {}
    for spec in specs:
        array = batch[spec.name]
        fits = array.ndim == len(spec.axes) and all(
            size == (sizes.setdefault(axis, size) if isinstance(axis, str) else axis)
            for axis, size in zip(spec.axes, array.shape, strict=True)
        )
        what = f"{spec.name} is {array.dtype} {list(array.shape)}, declared as {spec.dtype} {list(spec.axes)}"
        require(fits and array.dtype == spec.dtype, encoder, promise, f"{what}; a varying axis needs a name")


def check_parameters(encoder: Encoder) -> None:
    """Every parameter is registered and has its place in ``depth_groups``."""
    promise = "lists every parameter in depth_groups() exactly once"
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    hidden = [
        f"{path or type(encoder).__name__}.{attribute}"
        for path, module in encoder.named_modules()
        for attribute, value in vars(module).items()
        if not attribute.startswith("_") and any(id(found) not in names for found in _parameters_in(value))
    ]
    fix = "torch neither trains, saves nor moves them; use nn.ParameterList, nn.ModuleList or nn.ModuleDict"
    require(not hidden, encoder, "registers its parameters", f"{', '.join(hidden)} is a plain container; {fix}")
    with contract_step(encoder, promise):
        listed = [parameter for group in encoder.depth_groups() for parameter in group]
    ids = [id(parameter) for parameter in listed]
    strangers = sum(identity not in names for identity in ids)
    require(strangers == 0, encoder, promise, f"{strangers} of those listed are not in encoder.parameters()")
    missing = [name for identity, name in names.items() if identity not in ids]
    require(not missing, encoder, promise, f"{some(missing)} not listed; add them, or remove what is not needed")
    twice = sorted({names[identity] for identity in ids if ids.count(identity) > 1})
    require(not twice, encoder, promise, f"{some(twice)} listed more than once")


def _parameters_in(value: Any) -> Iterator[nn.Parameter]:
    if isinstance(value, nn.Parameter):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.parameters()
    elif isinstance(value, Mapping):
        yield from (found for entry in value.values() for found in _parameters_in(entry))
    elif isinstance(value, list | tuple | set):
        yield from (found for entry in value for found in _parameters_in(entry))


def require(kept: bool, encoder: Any, promise: str, what: str) -> None:
    """Raises a ContractError unless ``kept``; ``promise`` continues the words "an encoder"."""
    if not kept:
        raise ContractError(f"{_called(encoder)} breaks the promise that an encoder {promise}: {what}")


@contextmanager
def contract_step(encoder: Any, promise: str) -> Iterator[None]:
    """Turns whatever is raised inside into a ContractError."""
    try:
        yield
    except ContractError:
        raise
    except Exception as error:  # third-party code may raise anything
        lines = str(error).strip().splitlines() or [""]
        what = f"{type(error).__name__}: {lines[0][:300]}"
        raise ContractError(f"{_called(encoder)} breaks the promise that an encoder {promise}: {what}") from error


def _called(encoder: Any) -> str:
    return getattr(encoder, "name", "") or type(encoder).__name__


def some(names: Collection[str]) -> str:
    """The first names of a list, and how many more there are."""
    shown = ", ".join(list(names)[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
