"""One optimizer step: forward, weighted loss, backward, clip, update."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from multimodal.data.dataset import Batch
from multimodal.model import MultimodalModel
from multimodal.model.modes import batch_norms
from multimodal.model.objective import StepContext, objective_loss, reports
from multimodal.runtime.distributed import Processes
from multimodal.trainer.gradients import COSINE, TaskGradients, shared_parameters
from multimodal.trainer.losses import combined_loss, loss_normalizers, loss_terms, task_losses, weighted_losses
from multimodal.trainer.memory import OutOfMemoryError, retry_with_smaller_micro_batches
from multimodal.trainer.optimization import set_learning_rate
from multimodal.trainer.state import TrainerOptions
from multimodal.trainer.weighting import loss_weights


class Step:
    """Applies one optimizer step to the model; a step whose loss is not finite changes nothing.

    Args:
        options: of which ``task_weights``, ``clip_norm``, ``precision`` and ``project_conflicts`` count here.
        scaler: scales the loss in fp16, and skips steps whose scaled gradient overflows.
    """

    def __init__(
        self,
        model: MultimodalModel,
        optimizer: torch.optim.Optimizer,
        *,
        options: TrainerOptions,
        scaler: torch.amp.GradScaler,
        processes: Processes,
    ) -> None:
        self.model, self.optimizer, self.task_weights = model, optimizer, options.task_weights
        self.options, self.scaler, self.processes = options, scaler, processes
        self.device = next(model.parameters()).device
        self.shared = shared_parameters(model)
        self.cosines: dict[str, float] = {}
        """"TASK.TASK" -> cosine of their gradients in the last step that measured them."""
        self.terms = loss_terms(model, list(self.task_weights))
        synchronised = [module for module in model.modules() if isinstance(module, nn.SyncBatchNorm)]
        self.batch_norms = [*batch_norms(model), *synchronised]
        self.trained = [p for group in optimizer.param_groups for p in group["params"]]
        # wrapped anew for each phase: DDP listens only to parameters that train when it is built
        self.wrapped: nn.Module = DistributedDataParallel(model) if processes.world > 1 else model
        self.part_size: int | None = None
        """Records that memory was seen to hold at a time; None where every part has fitted."""

    def __call__(
        self, parts: Sequence[Batch], learning_rate: float, seed: int, progress: float = 0.0, *, measure: bool = False
    ) -> float:
        """Trains on the parts of one step's batch, which this process holds.

        Args:
            progress: share of the phase's steps that were done before this one, 0 to 1.
            seed: of dropout and of the order of projections; a function of the step, so that a resumed run repeats
                it, and the same in all processes.
            measure: takes the cosines of the tasks' gradients, which changes nothing.

        Returns:
            The loss over all parts and processes.
        """
        set_learning_rate(self.optimizer, learning_rate)
        self.optimizer.zero_grad(set_to_none=True)
        totals = self.processes.sum(loss_normalizers(parts, self.terms).to(self.device))
        running = [buffer for norm in self.batch_norms if norm.training for buffer in norm.buffers()]
        before = [buffer.clone() for buffer in running]

        def undo() -> None:
            self.optimizer.zero_grad(set_to_none=True)
            _restore(running, before)

        def attempt(cut: Sequence[Batch]) -> Tensor:
            self._seed(seed)
            return self._all_backward(cut, totals, progress, seed, measure=measure)

        total = self._with_memory(attempt, parts, undo)
        loss = float(self.processes.sum(total))
        self.scaler.unscale_(self.optimizer)
        clip_norm = math.inf if self.options.clip_norm is None else self.options.clip_norm
        norm = torch.nn.utils.clip_grad_norm_(self.trained, clip_norm)
        if math.isfinite(loss) and (self.scaler.is_enabled() or bool(norm.isfinite())):
            self.scaler.step(self.optimizer)
            self.scaler.update()
            return loss
        self.scaler.update()  # lowers its scale; without it the next unscale_ refuses
        _restore(running, before)  # a BatchNorm that has seen NaN answers NaN for ever
        return float("nan")

    def report(self) -> dict[str, float]:
        """Figures of the tasks' gradients and the objectives, for the history."""
        found = {f"{COSINE}.{pair}": cosine for pair, cosine in self.cosines.items()}
        said = reports(self.model)
        return found | {f"{name}.{key}": value for name, numbers in said.items() for key, value in numbers.items()}

    def _needs_gradients(self, measure: bool) -> bool:
        return bool(self.shared) and len(self.task_weights) > 1 and (measure or self.options.project_conflicts)

    def _with_memory(
        self, attempt: Callable[[list[Batch]], Tensor], parts: Sequence[Batch], undo: Callable[[], None]
    ) -> Tensor:
        if self.processes.world == 1:
            total, self.part_size = retry_with_smaller_micro_batches(attempt, parts, self.part_size, undo)
            return total
        try:
            return attempt(list(parts))
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(
                f"process {self.processes.rank} has no memory for {max(len(part.rows) for part in parts)} records at a "
                "time, and processes that train together cannot stop in the middle of a step to try smaller "
                "micro-batches; raise train.accumulate, which keeps the batch as it is, and continue with --resume"
            ) from error

    def _all_backward(
        self, parts: Sequence[Batch], totals: Tensor, progress: float, seed: int, *, measure: bool
    ) -> Tensor:
        share = 1.0 / (len(parts) * self.processes.world)
        total = torch.zeros((), device=self.device)
        gradients = TaskGradients(self.shared, list(self.task_weights)) if self._needs_gradients(measure) else None
        for index, part in enumerate(parts):
            with self._synchronised(index == len(parts) - 1):
                total += self._backward(part, totals, progress, share, gradients)
        if gradients is not None:
            gradients.gather(self.processes)
            self.cosines = gradients.cosines() if measure else self.cosines
            if self.options.project_conflicts:
                gradients.take_out_conflicts(seed)
        return total

    def _seed(self, seed: int) -> None:
        torch.default_generator.manual_seed(seed + self.processes.rank)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed + self.processes.rank)

    def _backward(
        self, part: Batch, totals: Tensor, progress: float, share: float, gradients: TaskGradients | None
    ) -> Tensor:
        batch = part.to(self.device)
        with self._autocast():
            output = self.wrapped(batch.inputs)
        losses = task_losses(self.model, output, batch, list(self.task_weights), totals)
        beside = objective_loss(StepContext(self.model, output, batch, progress))
        weights = loss_weights(self.model, self.task_weights)
        if gradients is not None:
            gradients.add({task: self.scaler.scale(one) for task, one in weighted_losses(losses, weights).items()})
        loss = combined_loss(losses, weights) + share * beside
        self.scaler.scale(loss * self.processes.world).backward()  # DDP averages over processes, the loss sums
        return loss.detach()

    def _autocast(self) -> AbstractContextManager:
        if self.options.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if self.options.precision == "bf16" else torch.float16)

    def _synchronised(self, last: bool) -> AbstractContextManager:
        if isinstance(self.wrapped, DistributedDataParallel) and not last:
            return self.wrapped.no_sync()
        return nullcontext()


def _restore(buffers: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for buffer, value in zip(buffers, values, strict=True):
        buffer.copy_(value)
