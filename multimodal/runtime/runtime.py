"""Resources of a run, which all its parts share."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from multimodal.runtime.distributed import Processes


@dataclass(frozen=True)
class Runtime:
    """Device, processes, cache and workers; by default the CPU, one process, and nothing on disk."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    processes: Processes = field(default_factory=Processes)
    cache: Path | None = None
    """Folder of tokens, for later runs; None keeps them in memory."""
    workers: int = 0
    """Decoding processes."""
