"""Checks of an encoder's attributes, its preprocessor's JSON and its list of parameters."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from encoders.base import Encoder
from encoders.contract import contract_step, require, some
from encoders.preprocessing import Arrays, Preprocessor, TensorSpec, preprocessor_from_config


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


def preprocess(preprocessor: Preprocessor, raws: Sequence[Any], *, owner: Any, kind: str) -> list[Arrays]:
    """Raw values become the declared arrays, the same after a trip through JSON; returns them, one dict a value."""
    with contract_step(owner, "preprocesses raw values", kind):
        records = [preprocessor(raw) for raw in raws]
        batch = preprocessor.stack(records)
    with contract_step(owner, "has a blank that stands in for a missing value", kind):
        blank = preprocessor.stack([preprocessor.blank()])
    for arrays in (batch, blank):
        _check_declared(preprocessor.tensors, arrays, owner, kind)
    with contract_step(owner, "preprocesses alike once rebuilt from JSON", kind):
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
    require(same, owner, "preprocesses alike once rebuilt from JSON", fix, kind)
    return records


def _check_declared(specs: Sequence[TensorSpec], batch: Arrays, owner: Any, kind: str) -> None:
    """Every array is what its spec says, and axes of one name have one size."""
    promise = "gives the tensors that preprocessor.tensors declares"
    declared = [spec.name for spec in specs]
    require(sorted(batch) == sorted(declared), owner, promise, f"{sorted(batch)}, declared {declared}", kind)
    sizes: dict[str, int] = {}
    for spec in specs:
        array = batch[spec.name]
        fits = array.ndim == len(spec.axes) and all(
            size == (sizes.setdefault(axis, size) if isinstance(axis, str) else axis)
            for axis, size in zip(spec.axes, array.shape, strict=True)
        )
        what = f"{spec.name} is {array.dtype} {list(array.shape)}, declared as {spec.dtype} {list(spec.axes)}"
        require(fits and array.dtype == spec.dtype, owner, promise, f"{what}; a varying axis needs a name", kind)


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
