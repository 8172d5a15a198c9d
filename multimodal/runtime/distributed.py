"""The few things that several training processes agree on; torch's own engine does the rest."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from multimodal.runtime.progress import quiet

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Processes:
    """This process among those that ``torchrun`` started; alone without it."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """True if this process evaluates, writes and speaks."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool, device: torch.device) -> bool:
        """True if the flag is raised in any process."""
        if self.world == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=device)) > 0)

    def gather(self, text: str, device: torch.device) -> list[str]:
        """Value of each process, by rank."""
        if self.world == 1:
            return [text]
        content = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).to(device)
        sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(self.world)]
        dist.all_gather(sizes, torch.tensor([len(content)], device=device))
        longest = int(max(sizes))
        parts = [torch.zeros(longest, dtype=torch.uint8, device=device) for _ in range(self.world)]
        dist.all_gather(parts, nn.functional.pad(content, (0, longest - len(content))))
        return [bytes(part[: int(size)].tolist()).decode() for part, size in zip(parts, sizes, strict=True)]

    def synchronise(self, model: Model) -> Model:
        """The model with BatchNorm layers that see the records of every process; unchanged on CPUs, or alone."""
        if self.world == 1 or next(model.parameters()).device.type == "cpu":
            return model
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)

    def wait(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def processes() -> Iterator[Processes]:
    """Joins the processes that ``torchrun`` started and leaves them at the end."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes()
        return
    local_rank = int(os.environ["LOCAL_RANK"])
    joined_before = dist.is_initialized()
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
    if not joined_before:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    group = Processes(dist.get_rank(), world, local_rank)
    # all of them log the same, except of their own decoding processes
    others_are_quiet = nullcontext() if group.is_main else quiet(but="multimodal.runtime.workers")
    try:
        with others_are_quiet:
            yield group
        group.wait()  # one that leaves early takes the connection of the others with it
    finally:
        if not joined_before:
            dist.destroy_process_group()
