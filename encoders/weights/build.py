"""Building an encoder with its weights: random, pretrained, from a file, or from an earlier training run."""

import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from encoders.base import Encoder, Provenance
from encoders.info import EncoderInfo, Factory, Weights
from encoders.plugins import BUILT_IN
from encoders.preprocessing import load_preprocessor
from encoders.weights.source_run import INPUTS, SourceRun
from encoders.weights.state import digest_of_files, fit_state, load_state, read_safetensors


def build(info: EncoderInfo, factory: Factory, weights: Weights, kwargs: Mapping[str, Any]) -> Encoder:
    """Calls the factory and writes into the encoder what it was built from.

    Raises:
        TypeError: if the factory does not take an option, or returns no Encoder.
        ValueError: if the weights do not fit.
        FileNotFoundError: if they are not there.
    """
    run = SourceRun.find(weights, info.name)
    if run is not None:
        return _build_from_run(info, factory, run, kwargs)
    encoder = _call(info, factory, weights, kwargs)
    encoder.name, encoder.arguments = info.name, encoder.arguments or dict(kwargs)
    if weights is not None:
        known = encoder.provenance if "provenance" in vars(encoder) else Provenance(str(weights))
        licence = info.licence if weights == "pretrained" and known.licence == "unknown" else known.licence
        encoder.provenance = replace(known, licence=licence)
    return encoder


def _build_from_run(info: EncoderInfo, factory: Factory, run: SourceRun, kwargs: Mapping[str, Any]) -> Encoder:
    for option, value in kwargs.items():
        if json.dumps(run.arguments.get(option)) != json.dumps(value):
            raise ValueError(
                f"option {option} is {value!r}, but {info.name} of {run.folder} has {run.arguments.get(option)!r}; "
                "leave options out, they come with the run"
            )
    encoder = _call(info, factory, None, run.arguments)
    encoder.name, encoder.arguments = info.name, dict(run.arguments)
    fit_state(encoder, read_safetensors(run.weights_file), f"{run.folder}, input {run.input},", prefix=run.prefix)
    encoder.preprocessor = load_preprocessor(run.folder / INPUTS / run.input)
    encoder.provenance = Provenance(str(run.folder), digest_of_files([run.weights_file]), run.licence)
    return encoder


def _call(info: EncoderInfo, factory: Factory, weights: Weights, options: Mapping[str, Any]) -> Encoder:
    """The factory's encoder; a factory without ``weights`` gets its weights loaded here."""
    parameters = inspect.signature(factory).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    arguments = dict(options)
    if "weights" in parameters or takes_any:
        arguments["weights"] = weights
    if "name" in parameters:
        arguments["name"] = info.name
    unknown = [option for option in arguments if option not in parameters and not takes_any]
    if unknown:
        known = [name for name in parameters if name not in ("self", "weights", "name")]
        raise TypeError(f"{info.name} takes no option {', '.join(unknown)}; it takes {', '.join(known) or 'none'}")
    if weights == "pretrained" and not info.has_weights and (info.source == BUILT_IN or "weights" not in arguments):
        raise ValueError(
            f"{info.name} has no pretrained weights of its own; leave `weights` out for random initialisation, or "
            "give a file, a folder or an earlier run"
        )
    with torch.inference_mode(False):  # what is made in inference mode can never be trained
        encoder = factory(**arguments)
    _check_encoder(info, encoder)
    if weights is not None and "weights" not in arguments:
        encoder.provenance = Provenance(str(weights), load_state(encoder, Path(weights)))
    return encoder


def _check_encoder(info: EncoderInfo, encoder: Any) -> None:
    if not isinstance(encoder, Encoder):
        raise TypeError(f"the factory of {info.name} returned a {type(encoder).__name__}; return an encoders.Encoder")
    missing = [name for name in ("modality", "embed_dim", "preprocessor") if not hasattr(encoder, name)]
    if missing:
        raise TypeError(f"{info.name} has no {', '.join(missing)}; set it in __init__, after super().__init__()")
    if info.modality not in ("unknown", "any", encoder.modality):
        raise ValueError(
            f"{info.name} is registered for {info.modality!r} but reads {encoder.modality!r}; make the two agree"
        )
