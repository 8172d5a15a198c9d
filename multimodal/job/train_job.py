"""Training the model of a job: plan, kept tokens, computed heads, the trainer, averages."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusion.names import NamedModules
from multimodal.builders.training import (
    build_objectives,
    build_strategy,
    build_trackers,
    build_trainer_options,
    plan_training,
)
from multimodal.config import ConfigError, Job
from multimodal.config.frozen_rules import computed_heads
from multimodal.config.rules import group_problems, share_problems
from multimodal.config.unread import idle_warnings
from multimodal.features.closed_form import fit_heads, without_closed_form
from multimodal.job.adapting import add_adaptation
from multimodal.job.average_choice import keep_the_better, reject_unshared_statistics
from multimodal.job.fitted_maps import fit_input_maps
from multimodal.job.kept_tokens import keep_tokens
from multimodal.job.setup import TrainingSetup
from multimodal.model import MultimodalModel
from multimodal.model.objective import reports
from multimodal.records import RecordError
from multimodal.run import WEIGHTS_FILE
from multimodal.runtime.checkpoint import save_tensors
from multimodal.runtime.runtime import Runtime
from multimodal.trainer import CHECKPOINTS, Hooks, Trainer
from multimodal.trainer.gradients import check_shared, conflict_lines, summarise_cosines
from multimodal.trainer.state import TrainerState
from multimodal.trainer.weight_averaging import WeightTracker, build_averaging
from multimodal.trainer.weight_drift import WeightSnapshot
from multimodal.transfer.plan import Phase, TransferStrategy, trained_names

logger = logging.getLogger(__name__)


def train_job(
    setup: TrainingSetup, folder: Path, runtime: Runtime, *, resume: bool
) -> tuple[TrainingSetup, dict[str, Any]]:
    """Trains the job's model in place; its weights go into ``folder``.

    Returns:
        The setup as it was trained, with kept tokens; and what happened, JSON.
    """
    began, start, is_main = time.monotonic(), WeightSnapshot(setup.model), runtime.processes.is_main
    logger.info(f"transfer: {setup.choice}")
    job = setup.job.model_copy(update={"transfer": setup.choice.transfer})
    for line in idle_warnings(job):
        logger.warning(line)
    strategy = build_strategy(job, setup.model)
    phases, options = _plan(setup, job, strategy, runtime), build_trainer_options(job, runtime.device)
    if options.project_conflicts:
        check_shared(setup.model, phases)
    averaging = build_averaging(job.transfer, folder / CHECKPOINTS, len(phases), writes=is_main)
    if averaging is not None:
        reject_unshared_statistics(averaging, setup.model, phases, runtime.processes)
    setup = keep_tokens(setup, trained_names(phases), runtime)
    trackers = build_trackers(job) if is_main else []
    for tracker in trackers:
        tracker.on_start(setup.job, folder)
    computed = computed_heads(job)
    left, unreadable = _without_computed(setup, computed, phases)
    validate = setup.validator if left or computed else None  # else nothing is chosen
    hooks = Hooks(validate, WeightTracker() if averaging is None else averaging, trackers)
    trainer = Trainer(setup.model, setup.loader, folder, options=options, hooks=hooks, processes=runtime.processes)
    trainer.checkpointer.began = began
    state = trainer.fit(left, resume=resume)
    state.skipped_rows |= {str(row): error.reason for row, error in unreadable.items()}
    summary = _summary(state, setup.model)
    for line in conflict_lines(summary.get("gradient_cosine", {})):
        logger.info(line)
    if is_main and averaging is not None:
        assert state.best_score is not None
        state.best_score, summary["average"] = keep_the_better(setup, averaging, state.best_score)
    setup.model.objectives = NamedModules({})  # only training needed them
    strategy.finish(setup.model)
    start.log_small_drift(setup.model, phases)
    if is_main:
        setup.model.eval()
        save_tensors(folder / WEIGHTS_FILE, setup.model.state_dict())
    summary |= {"transfer": setup.choice.to_json(), "moved": start.relative_drift(setup.model)}
    summary |= {"best_score": _finite(state.best_score), "seconds": state.seconds + time.monotonic() - began}
    for tracker in trackers:
        tracker.on_end(dict(summary))
    return setup, summary


def _plan(setup: TrainingSetup, job: Job, strategy: TransferStrategy, runtime: Runtime) -> list[Phase]:
    """The phases of the training; puts what joins the loss into the model, which is then on its device.

    Args:
        job: the setup's, with a strategy that is not auto.

    Raises:
        ConfigError: if the processes cannot share the batches out.
    """
    world, tables = runtime.processes.world, setup.tables
    shares = share_problems(job.train, len(tables.labelled()), world) if len(tables.training()) > 1 else ()
    for problem in (*group_problems(job, world), *shares):
        raise ConfigError(problem)
    setup.model.objectives.update(build_objectives(job, setup.model))
    setup.model.to(runtime.device)
    add_adaptation(setup, world)
    return plan_training(job, setup.model, strategy)


def _without_computed(
    setup: TrainingSetup, heads: Mapping[str, str], phases: Sequence[Phase]
) -> tuple[list[Phase], dict[int, RecordError]]:
    """Computes maps, and these heads; gives the phases that are left, and the rows that cannot be read."""
    fit_input_maps(setup)
    job, data = setup.job, setup.datasets
    options: dict[str, Any] = {"views": data.views, "seed": job.train.seed, "on_error": job.data.on_error}
    unreadable = fit_heads(heads, setup.model, data.training, **options)
    return without_closed_form(heads, setup.model, phases), unreadable


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
