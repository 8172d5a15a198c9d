"""Loader of training steps: which records each reads, in which order, and by how many processes."""

from collections.abc import Callable, Generator
from dataclasses import dataclass

from multimodal.data.dataset import Batch, SampleDataset, training_batches
from multimodal.data.order import StepOrder, StepSampler


@dataclass(frozen=True)
class StepLoader:
    """Micro-batches of any stretch of steps."""

    data: SampleDataset
    order: StepOrder
    """Rows of each step."""
    accumulate: int = 1
    """Micro-batches that each step's batch is cut into."""
    workers: int = 0
    """Decoding processes."""

    def steps(
        self, start: int, stop: int, *, rank: int = 0, world: int = 1, check: Callable[[], None] = lambda: None
    ) -> Generator[list[Batch]]:
        """Micro-batches of the steps from ``start`` to before ``stop``, for one of ``world`` processes.

        Args:
            check: called while waiting; may raise.
        """
        sampler = StepSampler(self.order, start, stop, rank=rank, world=world)
        return training_batches(self.data, sampler, parts=self.accumulate, workers=self.workers, check=check)
