"""Checkpoints of a training: the best weights, and states to resume from."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from multimodal.model import MultimodalModel
from multimodal.runtime.checkpoint import (
    Checkpoint,
    load_newest_checkpoint,
    load_tensors,
    save_checkpoint,
    save_tensors,
)
from multimodal.runtime.distributed import Processes
from multimodal.trainer.state import TrainerState
from multimodal.trainer.weight_averaging import WeightTracker
from multimodal.transfer.plan import Phase, parameter_names, trained_names

CHECKPOINTS = "checkpoints"
"""Folder of a run."""
BEST_FILE = "best.safetensors"


class Checkpointer:
    """Writes, in the main process, what a training needs to resume, and reads it in all.

    Args:
        folder: takes the files.
        scaler: of the loss in fp16.
    """

    def __init__(
        self,
        folder: Path,
        model: MultimodalModel,
        weight_tracker: WeightTracker,
        scaler: torch.amp.GradScaler,
        processes: Processes,
    ) -> None:
        self.folder, self.model, self.weight_tracker = folder, model, weight_tracker
        self.scaler, self.processes = scaler, processes
        self.device = next(model.parameters()).device
        self.fixed: frozenset[str] = frozenset()
        """Names of tensors that no phase changes, and that checkpoints leave out."""
        self.began = time.monotonic()
        """When this process began to train."""

    def keep_best(self) -> None:
        """Writes the model's weights as the best so far."""
        if self.processes.is_main:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_tensors(self.folder / BEST_FILE, self._changing())

    def load_best(self) -> None:
        """Gives the model the best weights, in all processes."""
        self.processes.wait()
        self._load(load_tensors(self.folder / BEST_FILE)[0])

    def save(self, state: TrainerState, optimizer: dict[str, Tensor]) -> None:
        """Writes a checkpoint; all processes add the rows that they skipped to the state.

        Args:
            optimizer: its packed state; empty between phases.
        """
        for skipped in self.processes.gather(json.dumps(state.skipped_rows), self.device):
            state.skipped_rows |= json.loads(skipped)
        if self.processes.is_main:
            parts = {"model": self._changing(), "optimizer": optimizer, "onlooker": self.weight_tracker.tensors()}
            tensors = {f"{part}.{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
            content = {
                "trainer": asdict(state) | {"seconds": state.seconds + time.monotonic() - self.began},
                "scaler": self.scaler.state_dict(),
                "onlooker": self.weight_tracker.state(),
            }
            save_checkpoint(self.folder, Checkpoint(state.step, tensors, content))

    def restore(self) -> tuple[TrainerState, dict[str, Tensor]] | None:
        """The state of the newest whole checkpoint and its optimizer, after the model has its weights; None without."""
        checkpoint = load_newest_checkpoint(self.folder)
        if checkpoint is None:
            return None
        self.scaler.load_state_dict(checkpoint.state["scaler"])
        self._load(_part(checkpoint, "model"))
        kept = {name: tensor.to(self.device) for name, tensor in _part(checkpoint, "onlooker").items()}
        self.weight_tracker.restore(checkpoint.state["onlooker"], kept)
        return TrainerState(**checkpoint.state["trainer"]), _part(checkpoint, "optimizer")

    def _changing(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.model.state_dict().items() if name not in self.fixed}

    def _load(self, tensors: dict[str, Tensor]) -> None:
        kept = {name: tensor for name, tensor in self.model.state_dict().items() if name in self.fixed}
        self.model.load_state_dict(kept | tensors)


def fixed_tensors(model: MultimodalModel, phases: Sequence[Phase]) -> frozenset[str]:
    """Names of the tensors of encoders that no phase trains."""
    trained = trained_names(phases)
    names, fixed = parameter_names(model), set[int]()
    for entry in model.encoders:
        encoder = model.encoder(entry)
        if not any(names[id(parameter)] in trained for parameter in encoder.parameters()):
            fixed |= {id(tensor) for tensor in encoder.state_dict(keep_vars=True).values()}
    return frozenset(name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) in fixed)


def _part(checkpoint: Checkpoint, name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in checkpoint.tensors.items() if key.startswith(prefix)}
