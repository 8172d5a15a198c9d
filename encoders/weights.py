"""Building an encoder with its weights: random, pretrained, from a file, or from an earlier training run."""

import hashlib
import http.client
import inspect
import json
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from encoders.absent import absent_weights
from encoders.base import Encoder, Provenance
from encoders.info import BUILT_IN, EncoderInfo, Factory, Weights
from encoders.local import kept_file
from encoders.preprocessing import load_preprocessor
from encoders.source_run import SourceRun

WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts commonly keep the state_dict in a checkpoint."""


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
    encoder.name, encoder.arguments = info.name, dict(kwargs)
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
    fit_state(encoder, _read_safetensors(run.weights_file), f"{run.folder}, input {run.input},", prefix=run.prefix)
    encoder.preprocessor = load_preprocessor(run.preprocessor_folder)
    encoder.provenance = Provenance(str(run.folder), sha256_of([run.weights_file]), run.licence)
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
    lacking = [name for name in ("modality", "embed_dim", "preprocessor") if not hasattr(encoder, name)]
    if lacking:
        raise TypeError(f"{info.name} has no {', '.join(lacking)}; set it in __init__, after super().__init__()")
    if info.modality not in ("unknown", "any", encoder.modality):
        raise ValueError(
            f"{info.name} is registered for {info.modality!r} but reads {encoder.modality!r}; make the two agree"
        )


def load_state(module: nn.Module, path: Path, *, ignore: Collection[str] = ()) -> str:
    """Loads a file into a module and returns the file's sha256.

    Args:
        path: safetensors, or a state_dict written by ``torch.save``.
        ignore: beginnings of names that may be in the file and are not used, e.g. ``("fc.",)``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no state_dict, or one that does not fit; lists what is missing and what is too much.
    """
    fit_state(module, read_state(path), str(path), ignore=ignore)
    return sha256_of([path])


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a state_dict; runs no code that the file could hold.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no state_dict.
    """
    if not path.is_file():
        kind = "is a folder without a finished training run" if path.is_dir() else "is not there"
        raise FileNotFoundError(
            f"weights {str(path)!r}: {kind}; give a safetensors file, a state_dict, the folder of a training run, "
            '"pretrained" where the encoder has weights of its own, or null for random weights'
        )
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: is no whole safetensors file ({error}); copy it again") from error


def _read_pickled(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch raise whatever its parsers trip over
        raise ValueError(
            f"{path}: cannot be read as tensors only; it is damaged, or holds objects, which could run code. Save "
            "model.state_dict() with torch.save or safetensors.torch.save_file, and give that file"
        ) from error
    for key in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: holds no state_dict (name -> tensor); save model.state_dict() and give that file")
    state = dict(state)
    nn.modules.utils.consume_prefix_in_state_dict_if_present(state, "module.")  # of DistributedDataParallel
    return state


def fit_state(
    module: nn.Module, state: Mapping[str, Tensor], source: str, *, prefix: str = "", ignore: Collection[str] = ()
) -> None:
    """Loads tensors into a module; every one must be used and every one needed must be there.

    Args:
        source: begins the error message.
        prefix: only names that begin with it are used, without it.
        ignore: as ``load_state``.

    Raises:
        ValueError: if they do not fit.
    """
    chosen = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    chosen = {name: tensor for name, tensor in chosen.items() if not name.startswith(tuple(ignore))}
    own = module.state_dict()
    shapes = [
        f"{name} {list(tensor.shape)} instead of {list(own[name].shape)}"
        for name, tensor in chosen.items()
        if name in own and tensor.shape != own[name].shape
    ]
    if shapes:
        raise state_mismatch(source, shapes=shapes)
    missing, unexpected = module.load_state_dict(chosen, strict=False)
    if missing or unexpected:
        raise state_mismatch(source, missing=missing, unexpected=unexpected)


def state_mismatch(
    source: str, *, missing: Collection[str] = (), unexpected: Collection[str] = (), shapes: Collection[str] = ()
) -> ValueError:
    """The error that says how a state_dict does not fit."""
    lists = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    said = "; ".join(f"{kind}: {_some(names)}" for kind, names in lists.items() if names)
    return ValueError(f"{source} does not fit this encoder; {said}; give weights of the same architecture")


def _some(names: Collection[str], most: int = 5) -> str:
    shown = ", ".join(sorted(names)[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def sha256_of(paths: Iterable[Path]) -> str:
    """Hex digest of the files' contents, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def download(url: str, name: str) -> Path:
    """The file at ``url``, kept in torch's own cache folder (``TORCH_HOME``), where one from before is used again.

    Args:
        name: the encoder's, for the error message.

    Raises:
        FileNotFoundError: if it is neither there nor can be fetched; says where it was looked for and what to do.
    """
    path = kept_file(url)
    file_name = path.name
    if path.is_file():
        return path
    digest = torch.hub.HASH_REGEX.search(file_name)  # resnet18-f37072fd.pth
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), digest[1] if digest else None, progress=sys.stderr.isatty())
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise absent_weights(
            name,
            looked_for=f"{file_name} in {path.parent} (torch's cache, TORCH_HOME); {url} cannot be fetched ({error})",
            cache=str(path),
        ) from error
    return path
