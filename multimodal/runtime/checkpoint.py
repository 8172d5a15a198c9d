"""Checkpoints: one safetensors file each, written atomically, verified when read. No pickle anywhere."""

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from multimodal.runtime.files import write_atomically

logger = logging.getLogger(__name__)

KEEP = 2
"""Checkpoints kept: the newest, and the one before in case the newest is torn."""
METADATA_KEY = "multimodal"
FORMAT = 2
"""Of the names of tensors; files of version 0.1 name none."""
_OLD_NAMES = (
    (re.compile(r"(?<!encoders\.)\bfusion\.marks\."), "fusion.modality_embeddings."),
    (re.compile(r"(\bheads\.[^.]+)\.trusts$"), r"\1.expert_weights"),
)


class CheckpointError(ValueError):
    """A checkpoint that is damaged or belongs to something else."""


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a resumed run needs; random state is not among it, because steps are seeded one by one."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    """JSON."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any] | None = None) -> None:
    """Writes tensors and JSON into one safetensors file that carries its own digest.

    The same content gives the same bytes.
    """
    ordered = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    text = json.dumps(state or {})
    # one entry: safetensors writes several in random order
    metadata = {
        METADATA_KEY: json.dumps({"sha256": _digest(ordered, f"{FORMAT} {text}"), "state": text, "format": FORMAT})
    }
    write_atomically(path, save(ordered, metadata=metadata))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what ``save_tensors`` wrote.

    Raises:
        CheckpointError: if the file is torn or was changed.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path.name} is torn: {error}; copy it again, or take an earlier one") from error
    text = str(metadata.get("state"))
    is_old = "format" not in metadata
    if metadata.get("sha256") != _digest(tensors, text if is_old else f"{metadata['format']} {text}"):
        raise CheckpointError(
            f"{path.name} is damaged: its content does not match its digest; copy it again, or take an earlier one"
        )
    if is_old:
        tensors = {_renamed(name): tensor for name, tensor in tensors.items()}
    return tensors, json.loads(text)


def _renamed(name: str) -> str:
    """Today's name of a tensor in a file of version 0.1."""
    for pattern, new in _OLD_NAMES:
        name = pattern.sub(new, name)
    return name


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Adds a checkpoint to ``folder`` and removes all but the newest ``KEEP``."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {"step": checkpoint.step, **checkpoint.state}
    save_tensors(folder / f"step-{checkpoint.step:09d}.safetensors", checkpoint.tensors, state)
    for old in _files(folder)[:-KEEP]:
        old.unlink()


def load_newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint; a torn one is reported and the one before it is used."""
    for path in reversed(_files(folder)):
        try:
            tensors, state = load_tensors(path)
        except CheckpointError as error:
            logger.warning("%s; using the checkpoint before it", error)
            continue
        return Checkpoint(state.pop("step"), tensors, state)
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors")) if folder.is_dir() else []


def pack_optimizer(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> dict[str, Tensor]:
    """The optimizer's state as tensors, by parameter name."""
    packed = {}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                packed[f"{names[id(parameter)]}:{key}"] = value
    return packed


def unpack_optimizer(optimizer: torch.optim.Optimizer, packed: Mapping[str, Tensor], model: nn.Module) -> None:
    """Puts back what ``pack_optimizer`` took.

    Raises:
        CheckpointError: if it is the state of a parameter that the model does not have.
    """
    parameters = dict(model.named_parameters())
    for name, value in packed.items():
        parameter_name, _, key = name.rpartition(":")
        parameter = parameters.get(parameter_name)
        if parameter is None:
            raise CheckpointError(
                f"the checkpoint holds the optimizer's state of {parameter_name!r}, not in this model; continue "
                "with the config that wrote it, or start in another folder"
            )
        # the step counter lives on the CPU, as the optimizer itself keeps it
        optimizer.state[parameter][key] = value.clone() if key == "step" else value.to(parameter.device, copy=True)
