"""Training the model of a job: plan, kept tokens, computed heads, the trainer, averages."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from multimodal.adapting import add_adaptation, remove_objectives
from multimodal.average_choice import keep_the_better, refuse_unshared_statistics
from multimodal.build import build_strategy
from multimodal.checkpoint import save_tensors
from multimodal.closed_form.fit import fit_heads, without_closed_form
from multimodal.distributed import Processes
from multimodal.job import Job
from multimodal.moved import Start
from multimodal.progress import Say
from multimodal.run import WEIGHTS_FILE
from multimodal.trainer import CHECKPOINTS, Trainer
from multimodal.trainer_state import TrainerOptions, TrainerState
from multimodal.transfer import Phase
from multimodal.transfer_choice import choose_transfer
from multimodal.transfer_plan import plan_training
from multimodal.weight_averaging import build_averaging


def train_job(
    job: Job,
    folder: Path,
    device: torch.device,
    options: TrainerOptions,
    group: Processes,
    *,
    resume: bool,
    cache: Path | None,
    say: Say,
) -> tuple[Job, dict[str, Any]]:
    """Trains the job's model in place; its weights go into ``folder``.

    Returns:
        The job as it was trained, with kept tokens; and what happened, JSON.
    """
    began = time.monotonic()
    job.model.to(device)
    choice, start = choose_transfer(job.task, job.encoders, job.tables.train), Start(job.model)
    say(f"transfer: {choice}")
    task = job.task.model_copy(update={"transfer": choice.transfer})
    strategy = build_strategy(task, job.model)
    add_adaptation(job, group, say)
    phases = plan_training(task, job.model, strategy)
    averaging = build_averaging(choice.transfer, folder / CHECKPOINTS, len(phases), writes=group.is_main)
    if averaging is not None:
        refuse_unshared_statistics(averaging, job.model, phases, group)
    job = _with_kept_tokens(job, phases, cache, group, say)
    data = job.training_data()
    unreadable = fit_heads(job.task, job.model, data, views=job.task.transfer.views, say=say)
    options, phases = replace(options, workers=job.workers), without_closed_form(job.task, job.model, phases)
    trainer = Trainer(
        job.model,
        data,
        job.order(),
        {name: target.weight for name, target in job.task.tasks.items()},
        folder,
        options=options,
        evaluate=job.validate,
        onlooker=averaging,
        say=say,
        processes=group,
    )
    state = trainer.fit(phases, resume=resume)
    state.skipped_rows |= {str(row): error.reason for row, error in unreadable.items()}
    averages: dict[str, Any] = {}
    if group.is_main and averaging is not None:
        assert state.best_score is not None
        state.best_score, averages["average"] = keep_the_better(job, averaging, state.best_score, say)
    remove_objectives(job)
    strategy.finish(job.model)
    for line in start.remarks(job.model, phases):
        say(line)
    if group.is_main:
        job.model.eval()
        save_tensors(folder / WEIGHTS_FILE, job.model.state_dict())
    summary = _summary(state, seconds=time.monotonic() - began)
    return job, {**summary, "transfer": choice.to_json(), "moved": start.moved(job.model), **averages}


def _with_kept_tokens(job: Job, phases: Sequence[Phase], cache: Path | None, group: Processes, say: Say) -> Job:
    """Encodes what frozen encoders read: in the main process for all where they share a disk, else in each."""
    trained = {name for phase in phases for part in phase.groups for name in part.params}
    if cache is None or group.is_main:
        job = job.with_kept_tokens(trained, cache=cache, compute=True, say=say)
    group.wait()
    return job if cache is None or group.is_main else job.with_kept_tokens(trained, cache=cache, compute=False, say=say)


def _summary(state: TrainerState, *, seconds: float) -> dict[str, Any]:
    score = state.best_score
    return {
        "steps": state.step,
        "epochs": state.history[-1]["epoch"] if state.history else 0,
        "best_score": score if score is not None and math.isfinite(score) else None,
        "non_finite_steps": state.non_finite,
        "skipped_rows": state.skipped_rows,
        "seconds": seconds,
    }
