"""The one training loop: carries out a plan of phases, and can be killed and resumed at any step."""

import csv
import io
import json
import logging
import math
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import torch

from multimodal.data import Batch, SampleDataset, training_batches
from multimodal.data.order import StepOrder, StepSampler
from multimodal.model import MultimodalModel
from multimodal.model.modes import training_batch_norms
from multimodal.model.objective import monitored
from multimodal.runtime.checkpoint import (
    Checkpoint,
    load_newest_checkpoint,
    load_tensors,
    pack_optimizer,
    save_checkpoint,
    save_tensors,
    unpack_optimizer,
)
from multimodal.runtime.distributed import Processes
from multimodal.runtime.files import write_atomically
from multimodal.runtime.progress import Progress
from multimodal.runtime.stopping import EVALUATION_SECONDS, STEP_SECONDS, Stopped, StopSignals
from multimodal.trainer.gradients import COSINE
from multimodal.trainer.optimization import build_optimizer, freeze_all_but, learning_rate_factor
from multimodal.trainer.state import TrainerOptions, TrainerState
from multimodal.trainer.step import Step
from multimodal.trainer.weight_averaging import WeightTracker
from multimodal.transfer.plan import Phase, check_plan, parameter_names

logger = logging.getLogger(__name__)

MAX_NON_FINITE = 3
"""Steps in a row with a non-finite loss until training stops."""
CHECKPOINTS = "checkpoints"
"""Folder of a run."""
BEST_FILE, HISTORY_FILE = "best.safetensors", "history.csv"


class TrainingError(RuntimeError):
    """Training that cannot go on; the message says what was seen and what to try."""


class Trainer:
    """Carries out phases of training and ends with the best weights.

    Args:
        model: on its device already.
        data: the training records.
        order: which rows each step sees.
        task_weights: task -> weight of its loss, for every head.
        folder: takes ``checkpoints/`` and ``history.csv``.
        evaluate: gives validation metrics as flat numbers, and the score that chooses the best weights
            (higher is better); None keeps the last weights. Called in the main process only.
        weight_tracker: keeps weights on the way; None keeps none.
    """

    def __init__(
        self,
        model: MultimodalModel,
        data: SampleDataset,
        order: StepOrder,
        task_weights: dict[str, float],
        folder: Path,
        *,
        options: TrainerOptions,
        evaluate: Callable[[], tuple[dict[str, float], float]] | None = None,
        weight_tracker: WeightTracker | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.processes = processes if processes is not None else Processes()
        self.data, self.order, self.task_weights = data, order, task_weights
        self.model = self.processes.synchronise(model)
        self.checkpoints, self.history_file = folder / CHECKPOINTS, folder / HISTORY_FILE
        self.options, self.evaluate = options, evaluate
        self.weight_tracker = WeightTracker() if weight_tracker is None else weight_tracker
        self.device = next(model.parameters()).device
        self.state = TrainerState()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=options.precision == "fp16")
        self.fixed: frozenset[str] = frozenset()
        """Names of tensors that no phase changes, and that checkpoints leave out."""
        self._stop = StopSignals(at_once=self.processes.world == 1)

    def fit(self, phases: Sequence[Phase], *, resume: bool = False) -> TrainerState:
        """Trains; with ``resume`` goes on from the newest whole checkpoint, if there is one.

        Without a phase there is nothing to train: the model is only evaluated.

        Raises:
            TrainingError: if the loss was not finite three times in a row.
            RecordError: if a record cannot be read and ``on_error`` is "raise".
            SystemExit: with code 143 after SIGTERM, a checkpoint being written. A step that does not end then ends the
                process without one.
        """
        if not phases:
            self._evaluate_only()
            return self.state
        check_plan(self.model, phases, sum(phase.epochs for phase in phases))
        self.fixed = fixed_tensors(self.model, phases)
        checkpoint = load_newest_checkpoint(self.checkpoints) if resume else None
        if checkpoint is not None:
            self._restore(checkpoint)
        with self._stop.heard():
            while self.state.phase < len(phases):
                self._run_phase(phases[self.state.phase], checkpoint)
                checkpoint = None
        return self.state

    def _run_phase(self, phase: Phase, checkpoint: Checkpoint | None) -> None:
        freeze_all_but(self.model, phase)
        spec = phase.optimizer or self.options.optimizer
        optimizer = build_optimizer(self.model, phase, spec)
        if checkpoint is not None:
            unpack_optimizer(optimizer, _part(checkpoint, "optimizer"), self.model)
        step = Step(
            self.model,
            optimizer,
            self.task_weights,
            clip_norm=self.options.clip_norm,
            precision=self.options.precision,
            scaler=self.scaler,
            processes=self.processes,
            project_conflicts=self.options.project_conflicts,
        )
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
        sampler = StepSampler(self.order, self.state.step, self.state.phase_start + total, **world)
        parts, workers = self.options.accumulate, self.options.workers
        batches = training_batches(self.data, sampler, parts=parts, workers=workers, check=self._stop.check)
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
        """Counts the step; names unreadable records and non-finite losses."""
        state = self.state
        for error in (error for batch in parts for error in batch.errors):
            if self.options.on_error == "raise":
                raise error
            if str(error.row) not in state.skipped_rows:
                state.skipped_rows[str(error.row)] = error.reason
        state.step += 1
        if math.isfinite(loss):
            state.loss_sum, state.loss_steps, state.non_finite_in_a_row = state.loss_sum + loss, state.loss_steps + 1, 0
            return
        rows = [row for batch in parts for row in batch.rows]
        state.non_finite.append({"step": state.step, "rows": rows})
        state.non_finite_in_a_row += 1
        logger.warning(f"step {state.step}: the loss is not finite; the step is left out (rows {rows})")
        if state.non_finite_in_a_row >= MAX_NON_FINITE:
            raise TrainingError(
                f"the loss was not finite {MAX_NON_FINITE} steps in a row, up to step {state.step} (rows {rows}); "
                "lower train.learning_rate, set train.precision to fp32, or look at these records"
            )

    def _note_part_size(self, part_size: int | None) -> None:
        """Keeps it in the checkpoint: a resumed run cuts its batches alike, whatever else uses the device then."""
        if part_size != self.state.part_size:
            self.state.part_size = part_size
            logger.warning(
                f"step {self.state.step}: out of memory; from now on at most {part_size} records at a time, in batches "
                "of the same size"
            )

    def _end_epoch(self, phase: Phase, learning_rate: float, progress: Progress, report: dict[str, float]) -> bool:
        """Evaluates, keeps the best weights, writes history; True where patience is at its end."""
        state = self.state
        entry: dict[str, Any] = {
            "epoch": state.step // self.order.steps_per_epoch,
            "phase": phase.name,
            "step": state.step,
            "loss": state.loss_sum / state.loss_steps if state.loss_steps else math.nan,
            "learning_rate": learning_rate,
        }
        entry |= monitored(self.model)
        entry |= report
        state.loss_sum, state.loss_steps = 0.0, 0
        metrics, score = self._evaluate()
        if score is not None:
            better = state.best_score is None or score > state.best_score
            state.bad_epochs = 0 if better else state.bad_epochs + 1
            if better:
                state.best_score = score
                self._keep_best()
            self.weight_tracker.end_epoch(self.model, entry["epoch"], score)
            entry |= {**metrics, "score": score}
        state.history.append(entry)
        if self.processes.is_main:
            write_atomically(self.history_file, _as_csv(state.history))
        told = {key: value for key, value in entry.items() if isinstance(value, float) and not key.startswith(COSINE)}
        shown = ", ".join(f"{key} {value:.4g}" for key, value in told.items())
        logger.info(f"{phase.name}: epoch {entry['epoch']}, {shown}, {progress.pace()}")
        patience = self.options.patience if phase.patience is None else phase.patience
        return patience is not None and state.bad_epochs >= patience

    def _evaluate_only(self) -> None:
        metrics, self.state.best_score = self._evaluate()
        self.state.history.append(
            {"epoch": 0, "phase": "computed", "step": 0, **metrics, "score": self.state.best_score}
        )
        if self.processes.is_main:
            write_atomically(self.history_file, _as_csv(self.state.history))

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
        """Goes back to the best weights; the next phase starts from them."""
        self.weight_tracker.end_phase(self.model)
        if self.state.best_score is not None:
            self.processes.wait()
            self._load(load_tensors(self.checkpoints / BEST_FILE)[0])
        self.state.phase += 1
        self.state.phase_start, self.state.bad_epochs = self.state.step, 0
        self._save_checkpoint({})

    # --- what outlives the process ---

    def _keep_best(self) -> None:
        if self.processes.is_main:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            save_tensors(self.checkpoints / BEST_FILE, self._changing())

    def _checkpoint_if_due(self, optimizer: torch.optim.Optimizer, epoch_ends: bool) -> None:
        every = self.options.checkpoint_steps
        if self.processes.any(self._stop.asked, self.device):
            raise Stopped
        if epoch_ends or (every is not None and self.state.step % every == 0):
            self._save_checkpoint(pack_optimizer(optimizer, parameter_names(self.model)))

    def _leave(self, optimizer: torch.optim.Optimizer) -> NoReturn:
        self._save_checkpoint(pack_optimizer(optimizer, parameter_names(self.model)))
        logger.info(f"stopped by SIGTERM after step {self.state.step}; resume with --resume")
        raise SystemExit(128 + signal.SIGTERM)

    def _save_checkpoint(self, optimizer: dict[str, torch.Tensor]) -> None:
        for skipped in self.processes.gather(json.dumps(self.state.skipped_rows), self.device):
            self.state.skipped_rows |= json.loads(skipped)
        if self.processes.is_main:
            tensors = {f"model.{name}": tensor for name, tensor in self._changing().items()}
            tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizer.items()}
            tensors |= {f"onlooker.{name}": tensor for name, tensor in self.weight_tracker.tensors().items()}
            state = {
                "trainer": asdict(self.state),
                "scaler": self.scaler.state_dict(),
                "onlooker": self.weight_tracker.state(),
            }
            save_checkpoint(self.checkpoints, Checkpoint(self.state.step, tensors, state))

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.state = TrainerState(**checkpoint.state["trainer"])
        self.scaler.load_state_dict(checkpoint.state["scaler"])
        self._load(_part(checkpoint, "model"))
        kept = {name: tensor.to(self.device) for name, tensor in _part(checkpoint, "onlooker").items()}
        self.weight_tracker.restore(checkpoint.state["onlooker"], kept)
        logger.info(f"resuming after step {self.state.step}")

    def _changing(self) -> dict[str, torch.Tensor]:
        return {name: tensor for name, tensor in self.model.state_dict().items() if name not in self.fixed}

    def _load(self, tensors: dict[str, torch.Tensor]) -> None:
        kept = {name: tensor for name, tensor in self.model.state_dict().items() if name in self.fixed}
        self.model.load_state_dict(kept | tensors)


def fixed_tensors(model: MultimodalModel, phases: Sequence[Phase]) -> frozenset[str]:
    """Names of the tensors of encoders that no phase trains."""
    trained = {name for phase in phases for group in phase.groups for name in group.params}
    names, fixed = parameter_names(model), set[int]()
    for entry in model.encoders:
        encoder = model.encoder(entry)
        if not any(names[id(parameter)] in trained for parameter in encoder.parameters()):
            fixed |= {id(tensor) for tensor in encoder.state_dict(keep_vars=True).values()}
    return frozenset(name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) in fixed)


def _part(checkpoint: Checkpoint, name: str) -> dict[str, torch.Tensor]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in checkpoint.tensors.items() if key.startswith(prefix)}


def _as_csv(history: Sequence[dict[str, Any]]) -> bytes:
    columns = list(dict.fromkeys(key for entry in history for key in entry))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue().encode()
