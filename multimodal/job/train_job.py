"""Training the model of a job: plan, kept tokens, computed heads, the trainer, averages."""

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from multimodal.builders import build_objectives, build_strategy
from multimodal.builders.strategy_rule import choose_transfer
from multimodal.builders.training import build_trackers, plan_training
from multimodal.config import Job
from multimodal.config.frozen_rules import closed_form_tasks
from multimodal.config.rules import group_problems
from multimodal.config.unread import idle_warnings
from multimodal.features.closed_form import fit_heads, without_closed_form
from multimodal.job.adapting import add_adaptation, remove_objectives
from multimodal.job.average_choice import keep_the_better, refuse_unshared_statistics
from multimodal.job.fitted_maps import fit_input_maps
from multimodal.job.setup import TrainingSetup
from multimodal.model import MultimodalModel
from multimodal.model.objective import reports
from multimodal.run import WEIGHTS_FILE
from multimodal.runtime.checkpoint import save_tensors
from multimodal.runtime.runtime import Runtime
from multimodal.trainer import CHECKPOINTS, Trainer
from multimodal.trainer.gradients import check_shared, conflict_lines, summarise_cosines
from multimodal.trainer.history import Tracker
from multimodal.trainer.state import TrainerState
from multimodal.trainer.weight_averaging import WeightAveraging, build_averaging
from multimodal.trainer.weight_drift import WeightSnapshot
from multimodal.transfer import Phase, TransferStrategy
from multimodal.transfer.plan import trained_names

logger = logging.getLogger(__name__)


def train_job(
    setup: TrainingSetup, folder: Path, runtime: Runtime, *, resume: bool
) -> tuple[TrainingSetup, dict[str, Any]]:
    """Trains the job's model in place; its weights go into ``folder``.

    Returns:
        The job as it was trained, with kept tokens; and what happened, JSON.
    """
    began = time.monotonic()
    choice, start = choose_transfer(setup.job, setup.encoders, setup.tables.train), WeightSnapshot(setup.model)
    logger.info(f"transfer: {choice}")
    task = setup.job.model_copy(update={"transfer": choice.transfer})
    for line in idle_warnings(task):
        logger.warning(line)
    strategy = build_strategy(task, setup.model)
    phases = _plan(setup, task, strategy, runtime)
    if setup.trainer_options(runtime.device).project_conflicts:
        check_shared(setup.model, phases)
    averaging = build_averaging(choice.transfer, folder / CHECKPOINTS, len(phases), writes=runtime.processes.is_main)
    if averaging is not None:
        refuse_unshared_statistics(averaging, setup.model, phases, runtime.processes)
    setup = _with_kept_tokens(setup, phases, runtime)
    trackers = build_trackers(setup.job) if runtime.processes.is_main else []
    for tracker in trackers:
        tracker.on_start(setup.job, folder)
    state = _train(setup, phases, folder, averaging, trackers, runtime, resume=resume)
    summary = _summary(state, setup.model)
    for line in conflict_lines(summary.get("gradient_cosine", {})):
        logger.info(line)
    if runtime.processes.is_main and averaging is not None:
        assert state.best_score is not None
        state.best_score, summary["average"] = keep_the_better(setup, averaging, state.best_score)
    remove_objectives(setup)
    strategy.finish(setup.model)
    start.log_small_drift(setup.model, phases)
    if runtime.processes.is_main:
        setup.model.eval()
        save_tensors(folder / WEIGHTS_FILE, setup.model.state_dict())
    summary |= {"transfer": choice.to_json(), "moved": start.relative_drift(setup.model)}
    summary |= {"best_score": _finite(state.best_score), "seconds": time.monotonic() - began}
    for tracker in trackers:
        tracker.on_end(dict(summary))
    return setup, summary


def _plan(setup: TrainingSetup, job: Job, strategy: TransferStrategy, runtime: Runtime) -> list[Phase]:
    """The phases of the training; puts what joins the loss into the model, which is then on its device.

    Args:
        job: the setup's, with a strategy that is not auto.

    Raises:
        ValueError: if the processes cannot share the batches out.
    """
    for problem in group_problems(job, runtime.processes.world):
        raise ValueError(problem)
    setup.model.objectives.update(build_objectives(job, setup.model))
    setup.model.to(runtime.device)
    add_adaptation(setup, runtime.processes)
    return plan_training(job, setup.model, strategy)


def _train(
    setup: TrainingSetup,
    phases: Sequence[Phase],
    folder: Path,
    averaging: WeightAveraging | None,
    trackers: Sequence[Tracker],
    runtime: Runtime,
    *,
    resume: bool,
) -> TrainerState:
    """Computes maps and heads that are computed, and has the trainer do the rest."""
    fit_input_maps(setup)
    data = setup.training_data()
    unreadable = fit_heads(setup.job, setup.model, data, views=setup.job.transfer.views)
    left = without_closed_form(setup.job, setup.model, phases)
    trainer = Trainer(
        setup.model,
        data,
        setup.order(),
        {name: task.weight for name, task in setup.job.tasks.items()},
        folder,
        options=setup.trainer_options(runtime.device),
        evaluate=setup.validate if left or closed_form_tasks(setup.job) else None,  # else nothing is chosen
        weight_tracker=averaging,
        trackers=trackers,
        processes=runtime.processes,
    )
    state = trainer.fit(left, resume=resume)
    state.skipped_rows |= {str(row): error.reason for row, error in unreadable.items()}
    return state


def _with_kept_tokens(setup: TrainingSetup, phases: Sequence[Phase], runtime: Runtime) -> TrainingSetup:
    """Encodes what frozen encoders read: in the main process for all where they share a disk, else in each."""
    trained = trained_names(phases)
    first = runtime.cache is None or runtime.processes.is_main
    if first:
        setup = setup.with_kept_tokens(trained, runtime)
    runtime.processes.wait()
    return setup if first else setup.with_kept_tokens(trained, runtime)  # opens what the main process kept


def _summary(state: TrainerState, model: MultimodalModel) -> dict[str, Any]:
    of_tasks = {"gradient_cosine": summarise_cosines(state.history), "objectives": reports(model)}
    return {
        "steps": state.step,
        "epochs": state.history[-1]["epoch"] if state.history else 0,
        "non_finite_steps": state.non_finite,
        "skipped_rows": state.skipped_rows,
        **{name: found for name, found in of_tasks.items() if found},
    }


def _finite(score: float | None) -> float | None:
    return score if score is not None and math.isfinite(score) else None
