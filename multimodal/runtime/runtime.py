"""Resources of a run, which all its parts share, and the choice of its device and precision."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from multimodal.runtime.distributed import Processes

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Runtime:
    """Device, processes, cache and workers; by default the CPU, one process, and nothing on disk."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    processes: Processes = field(default_factory=Processes)
    cache: Path | None = None
    """Folder of tokens, for later runs; None keeps them in memory."""
    workers: int = 0
    """Decoding processes."""


def choose_device(setting: str, group: Processes) -> torch.device:
    """The device that ``train.device`` means; each process of several has its own.

    Raises:
        ValueError: if CUDA is asked for and absent.
    """
    if setting == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "train.device is cuda, but torch sees no CUDA device; `multimodal doctor` says more, or set "
            "train.device: auto"
        )
    if setting == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", group.local_rank)


def choose_precision(setting: str, device: torch.device) -> Precision:
    """The precision that ``train.precision`` means: "auto" is bf16 on CUDA devices that have it, else fp32.

    Raises:
        ValueError: if fp16 is asked for on a CPU.
    """
    if setting == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if setting == "fp16" and device.type == "cpu":
        raise ValueError("train.precision is fp16, which trains on CUDA only; set bf16, fp32 or auto")
    assert setting in ("fp32", "bf16", "fp16")
    return setting  # type: ignore[return-value]
