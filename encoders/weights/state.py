"""Tensors of files: read without running code, fitted into modules, or refused with the reason."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from encoders.contract import some

WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts commonly keep the state_dict in a checkpoint."""


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
    return digest_of_files([path])


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
    return read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)


def read_safetensors(path: Path) -> dict[str, Tensor]:
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
    said = "; ".join(f"{kind}: {some(sorted(names))}" for kind, names in lists.items() if names)
    return ValueError(f"{source} does not fit this encoder; {said}; give weights of the same architecture")


def digest_of_files(paths: Iterable[Path]) -> str:
    """Hex digest of the files' contents, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
