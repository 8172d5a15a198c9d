"""Runtime of a job."""

from pathlib import Path

from multimodal.config import Job
from multimodal.data.dataset import num_workers
from multimodal.runtime.distributed import Processes
from multimodal.runtime.runtime import Runtime, choose_device


def build_runtime(job: Job, processes: Processes | None = None, cache: Path | None = None) -> Runtime:
    """Runtime by ``train.device`` and ``data.workers``.

    Raises:
        ValueError: if CUDA is asked for and not available.
    """
    group = Processes() if processes is None else processes
    return Runtime(choose_device(job.train.device, group), group, cache, num_workers(job.data.workers))
