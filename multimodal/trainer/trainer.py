"""The one training loop: carries out a plan of phases, and can be killed and resumed at any step."""

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from multimodal.data.dataset import Batch, StepLoader
from multimodal.model import MultimodalModel
from multimodal.model.modes import training_batch_norms
from multimodal.model.objective import monitored
from multimodal.runtime.checkpoint import pack_optimizer, unpack_optimizer
from multimodal.runtime.distributed import Processes
from multimodal.runtime.progress import Progress
from multimodal.runtime.stopping import EVALUATION_SECONDS, STEP_SECONDS, Stopped, StopSignals
from multimodal.trainer.checkpointer import CHECKPOINTS, Checkpointer, fixed_tensors
from multimodal.trainer.history import HISTORY_FILE, RunHistory, Tracker, describe_entry
from multimodal.trainer.optimization import build_optimizer, freeze_all_but, learning_rate_factor
from multimodal.trainer.state import TrainerOptions, TrainerState
from multimodal.trainer.step import Step
from multimodal.trainer.weight_averaging import WeightTracker
from multimodal.transfer.plan import Phase, check_plan, parameter_names

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hooks:
    """Calls of the trainer while it trains."""

    evaluate: Callable[[], tuple[dict[str, float], float]] | None = None
    """Gives validation metrics as flat numbers, and the score that chooses the best weights (higher is better); None
    keeps the last weights. Called in the main process only."""
    weight_tracker: WeightTracker = field(default_factory=WeightTracker)
    """Keeps weights on the way."""
    trackers: Sequence[Tracker] = ()
    """Observers, in the main process."""


class Trainer:
    """Carries out phases of training and ends with the best weights.

    Args:
        model: on its device already.
        loader: of the training records.
        folder: takes ``checkpoints/`` and ``history.csv``.
    """

    def __init__(
        self,
        model: MultimodalModel,
        loader: StepLoader,
        folder: Path,
        *,
        options: TrainerOptions,
        hooks: Hooks | None = None,
        processes: Processes | None = None,
    ) -> None:
        hooks = Hooks() if hooks is None else hooks
        self.processes = processes if processes is not None else Processes()
        self.loader, self.order = loader, loader.order
        self.model = self.processes.synchronise(model)
        self.options, self.evaluate, self.weight_tracker = options, hooks.evaluate, hooks.weight_tracker
        self.device = next(model.parameters()).device
        self.state = TrainerState()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=options.precision == "fp16")
        self.history = RunHistory(folder / HISTORY_FILE, is_main=self.processes.is_main, trackers=hooks.trackers)
        self.checkpointer = Checkpointer(
            folder / CHECKPOINTS, self.model, self.weight_tracker, self.scaler, self.processes
        )
        self._stop = StopSignals(at_once=self.processes.world == 1)

    def fit(self, phases: Sequence[Phase], *, resume: bool = False) -> TrainerState:
        """Trains; with ``resume`` from the newest whole checkpoint, if there is one.

        Without a phase there is nothing to train: the model is only evaluated.

        Raises:
            TrainingError: if the loss was not finite three times in a row.
            RecordError: if a record cannot be read and ``on_error`` is "raise".
            SystemExit: with code 143 after SIGTERM, a checkpoint being written. A step that does not end then ends the
                process without one.
        """
        if phases:
            check_plan(self.model, phases, sum(phase.epochs for phase in phases))
        self.checkpointer.fixed = fixed_tensors(self.model, phases)
        optimizer = self._resume() if resume and phases else None
        if not phases:
            self._evaluate_only()
        with self._stop.heard():
            while self.state.phase < len(phases) and not self.state.stopped:
                self._run_phase(phases[self.state.phase], optimizer)
                optimizer = None
        return self.state

    def _resume(self) -> dict[str, Tensor] | None:
        """The state of the optimizer, where there is a checkpoint to resume from."""
        found = self.checkpointer.restore()
        if found is None:
            return None
        self.state, optimizer = found
        logger.info(f"resuming after step {self.state.step}")
        return optimizer

    def _run_phase(self, phase: Phase, saved: dict[str, Tensor] | None) -> None:
        freeze_all_but(self.model, phase)
        spec = phase.optimizer or self.options.optimizer
        optimizer = build_optimizer(self.model, phase, spec)
        if saved is not None:
            unpack_optimizer(optimizer, saved, self.model)
        step = Step(self.model, optimizer, options=self.options, scaler=self.scaler, processes=self.processes)
        step.part_size = self.state.part_size
        self._warn_of_batch_norms(phase)
        total = phase.epochs * self.order.steps_per_epoch
        groups = ", ".join(f"{group.name} x{group.lr_scale:g}" for group in phase.groups)
        logger.info(f"{phase.name}: at most {phase.epochs} epochs, trains {groups}")
        progress = Progress(total, done=self.state.step - self.state.phase_start)
        self.model.train()
        if self.state.step == self.state.phase_start:
            self.weight_tracker.begin_phase(self.model, self.state.phase)
        try:
            self._run_steps(phase, step, progress, total)
        except Stopped:
            self._leave(optimizer)
        self._end_phase()

    def _run_steps(self, phase: Phase, step: Step, progress: Progress, total: int) -> None:
        """The steps of a phase that are left.

        Raises:
            Stopped: on SIGTERM, between two steps.
        """
        spec, steps_per_epoch = phase.optimizer or self.options.optimizer, self.order.steps_per_epoch
        for parts in self._batches(total):
            done = self.state.step - self.state.phase_start
            factor = learning_rate_factor(done, total, spec.warmup)
            # the last step of the epoch, so that no checkpoint has to hold the cosines
            measure = self.options.gradient_cosine and (self.state.step + 1) % steps_per_epoch == 0
            with self._stop.bounded(STEP_SECONDS):
                loss = step(parts, spec.learning_rate * factor, self._seed(), done / total, measure=measure)
            self._record(loss, parts)
            self.weight_tracker.after_step(self.model)
            self._note_part_size(step.part_size)
            epoch_ends = self.state.step % steps_per_epoch == 0
            progress.advance(self.order.batch_size, f"{phase.name}: step {progress.done} of {total}")
            if epoch_ends and self._end_epoch(phase, spec.learning_rate * factor, progress, step.report()):
                break
            self._checkpoint_if_due(step.optimizer, epoch_ends)

    def _warn_of_batch_norms(self, phase: Phase) -> None:
        names = training_batch_norms(self.model)
        if names and self.processes.world > 1 and self.device.type == "cpu":
            logger.warning(
                f"{phase.name} trains {len(names)} BatchNorm layers ({names[0]}, ...), which see only their "
                "own process's records on CPUs; the result differs from that of one process"
            )

    def _batches(self, total: int) -> Iterator[list[Batch]]:
        world = {"rank": self.processes.rank, "world": self.processes.world}
        end = self.state.phase_start + total
        batches = self.loader.steps(self.state.step, end, **world, check=self._stop.check)
        with closing(batches):
            while True:
                with self._stop.bounded(STEP_SECONDS):
                    batch = next(batches, None)
                if batch is None:
                    return
                yield batch

    def _seed(self) -> int:
        return (self.options.seed * 1_000_003 + self.state.step) * 4_099  # distinct primes; ``Step`` adds the rank

    def _record(self, loss: float, parts: Sequence[Batch]) -> None:
        """Counts the step; names unreadable records."""
        for error in (error for batch in parts for error in batch.errors):
            if self.options.on_error == "raise":
                raise error
            self.state.skipped_rows.setdefault(str(error.row), error.reason)
        self.state.count_step(loss, [row for batch in parts for row in batch.rows])

    def _note_part_size(self, part_size: int | None) -> None:
        """Keeps it in the checkpoint: a resumed run cuts its batches alike, whatever else uses the device then."""
        if part_size != self.state.part_size:
            self.state.part_size = part_size
            logger.warning(
                f"step {self.state.step}: out of memory; from now on at most {part_size} records at a time, in batches "
                "of the same size"
            )

    def _end_epoch(self, phase: Phase, learning_rate: float, progress: Progress, report: dict[str, float]) -> bool:
        """Evaluates, keeps the best weights, adds to the history; True where patience or a tracker ends the phase."""
        state = self.state
        entry: dict[str, Any] = {
            "epoch": state.step // self.order.steps_per_epoch,
            "phase": phase.name,
            "step": state.step,
            "loss": state.take_mean_loss(),
            "learning_rate": learning_rate,
        }
        entry |= monitored(self.model)
        entry |= report
        metrics, score = self._evaluate()
        if score is not None:
            better = state.best_score is None or score > state.best_score
            state.bad_epochs = 0 if better else state.bad_epochs + 1
            if better:
                state.best_score = score
                self.checkpointer.keep_best()
            self.weight_tracker.end_epoch(self.model, entry["epoch"], score)
            entry |= {**metrics, "score": score}
        state.stopped = self.processes.any(self.history.add(state, entry), self.device)
        logger.info(f"{describe_entry(entry)}, {progress.pace()}")
        patience = self.options.patience if phase.patience is None else phase.patience
        return state.stopped or (patience is not None and state.bad_epochs >= patience)

    def _evaluate_only(self) -> None:
        metrics, self.state.best_score = self._evaluate()
        entry = {"epoch": 0, "phase": "computed", "step": 0, **metrics, "score": self.state.best_score}
        self.history.add(self.state, entry)

    def _evaluate(self) -> tuple[dict[str, float], float | None]:
        if self.evaluate is None:
            return {}, None
        self.model.eval()
        with self._stop.bounded(EVALUATION_SECONDS):
            metrics, score = self.evaluate() if self.processes.is_main else ({}, 0.0)
            self.model.train()
            total = self.processes.sum(torch.tensor(score, dtype=torch.float64, device=self.device))
        return metrics, float(total)

    def _end_phase(self) -> None:
        """Loads the best weights, from which the next phase starts."""
        self.weight_tracker.end_phase(self.model)
        if self.state.best_score is not None:
            self.checkpointer.load_best()
        self.state.phase += 1
        self.state.phase_start, self.state.bad_epochs = self.state.step, 0
        self.checkpointer.save(self.state, {})

    def _checkpoint_if_due(self, optimizer: torch.optim.Optimizer, epoch_ends: bool) -> None:
        every = self.options.checkpoint_steps
        if self.processes.any(self._stop.asked, self.device):
            raise Stopped
        if epoch_ends or (every is not None and self.state.step % every == 0):
            self._save(optimizer)

    def _leave(self, optimizer: torch.optim.Optimizer) -> NoReturn:
        self._save(optimizer)
        logger.info(f"stopped by SIGTERM after step {self.state.step}; resume with --resume")
        raise SystemExit(128 + signal.SIGTERM)

    def _save(self, optimizer: torch.optim.Optimizer) -> None:
        self.checkpointer.save(self.state, pack_optimizer(optimizer, parameter_names(self.model)))
