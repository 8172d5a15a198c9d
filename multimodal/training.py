"""From a job description to a trained run."""

import importlib.metadata
import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from encoders.base import Encoder
from multimodal.build import build_objectives, build_strategy
from multimodal.checkpoint import save_tensors
from multimodal.config import Task, load_task
from multimodal.distributed import Processes, processes
from multimodal.files import write_atomically
from multimodal.job import Job, choose_device
from multimodal.model import MultimodalModel
from multimodal.objective import reports
from multimodal.progress import Say, format_seconds
from multimodal.results import write_results
from multimodal.run import CONFIG_FILE, METRICS_FILE, MODEL_FILE, WEIGHTS_FILE, Run, RunError, write_architecture
from multimodal.tables import Tables, open_task, read_tables, unseen_labels
from multimodal.targets import nearest_label
from multimodal.task_conflicts import conflict_lines, summarise_cosines
from multimodal.task_gradients import check_shared
from multimodal.token_store import cache_folder
from multimodal.trainer import Trainer
from multimodal.trainer_state import TrainerOptions, TrainerState
from multimodal.transfer import Phase

logger = logging.getLogger(__name__)


def log_line(line: str) -> None:
    """Where progress goes that nobody takes: warnings as such."""
    logger.log(logging.WARNING if line.startswith("warning") else logging.INFO, line)


def fit(
    task: Task | str | Path,
    *,
    train: Any = None,
    valid: Any = None,
    test: Any = None,
    out: str | Path | None = None,
    root: str | Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    cache: bool = True,
    say: Say = log_line,
) -> Run:
    """Trains a job and returns its run.

    Args:
        task: the job, or the path of its YAML.
        train, valid, test: tables that stand in the place of ``task.data``: a path, a DataFrame or a list of
            dicts.
        out: folder of the run; left out: ``runs/NAME``, numbered where that is taken.
        root: folder of the media, for tables that are not files; left out: the working directory.
        overrides: "a.b=c" each, for a YAML.
        resume: goes on with the run in ``out``; a missing or empty one is started.
        cache: keeps the tokens of frozen encoders on disk, for later runs; False keeps them for this one only.
        say: takes lines of progress.

    Raises:
        ConfigError: if the job cannot be built.
        RunError: if ``out`` holds something else.
        RecordError: for a record that cannot be read, with ``data.on_error: raise``.
        TrainingError: if the loss stays non-finite.
    """
    task, base = open_task(task, overrides, {"train": train, "valid": valid, "test": test})
    folder = Path(out) if out is not None else _free_folder(Path("runs") / task.name)
    with processes() as group:
        say = say if group.is_main else _silence
        if _is_finished(folder, task, resume=resume):
            say(f"{folder} holds this run, finished; nothing to do")
            return Run(folder)
        tables = read_tables(task, train=train, valid=valid, test=test, root=root)
        job = Job.build(task, tables, base)
        device = choose_device(job.task.train.device, group)
        options = job.trainer_options(device)
        _refuse_other_data(folder, tables)
        group.wait()  # nobody writes before everybody has looked at the folder
        if group.is_main:
            _write_description(folder, job)
        _announce(job, say)
        kept = cache_folder() if cache else None
        job, summary = train_job(job, folder, device, options, group, resume=resume, cache=kept, say=say)
        if group.is_main:
            write_results(job, folder, summary, say)
            say(f"trained {summary['steps']} steps in {format_seconds(summary['seconds'])}: {folder}")
    return Run(folder)


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
    job.model.objectives.update(build_objectives(job.task, job.model))
    job.model.to(device)
    strategy = build_strategy(job.task, job.model)
    strategy.prepare(job.model)
    phases = strategy.plan(job.model, job.task.train.epochs)
    if options.project_conflicts:
        check_shared(job.model, phases)
    job = _with_kept_tokens(job, phases, cache, group, say)
    options = replace(options, workers=job.workers)
    trainer = Trainer(
        job.model,
        job.training_data(),
        job.order(),
        {name: target.weight for name, target in job.task.tasks.items()},
        folder,
        options=options,
        evaluate=job.validate,
        say=say,
        processes=group,
    )
    state = trainer.fit(phases, resume=resume) if phases else TrainerState()
    summary = _summary(state, job.model, seconds=time.monotonic() - began)
    for line in conflict_lines(summary.get("gradient_cosine", {})):
        say(line)
    job.model.objectives.clear()
    strategy.finish(job.model)
    if group.is_main:
        job.model.eval()
        save_tensors(folder / WEIGHTS_FILE, job.model.state_dict())
    return job, summary


def _with_kept_tokens(job: Job, phases: Sequence[Phase], cache: Path | None, group: Processes, say: Say) -> Job:
    """Encodes what frozen encoders read: in the main process for all where they share a disk, else in each."""
    trained = {name for phase in phases for part in phase.groups for name in part.params}
    if cache is None or group.is_main:
        job = job.with_kept_tokens(trained, cache=cache, compute=True, say=say)
    group.wait()
    return job if cache is None or group.is_main else job.with_kept_tokens(trained, cache=cache, compute=False, say=say)


def _free_folder(folder: Path) -> Path:
    number, candidate = 1, folder
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def _is_finished(folder: Path, task: Task, *, resume: bool) -> bool:
    """Whether the run is done; refuses a folder that holds something else."""
    if not folder.exists() or (folder.is_dir() and all(path.suffix == ".partial" for path in folder.iterdir())):
        return False
    if not resume:
        raise RunError(f"{folder} is not empty; add --resume to go on with the run in it, or name another folder")
    config = folder / CONFIG_FILE
    if not config.is_file():
        raise RunError(f"{folder} holds no training run (there is no {CONFIG_FILE}); name another folder")
    if load_task(config) != task:
        raise RunError(
            f"{folder} holds a run of another config, and --resume only goes on with the same; compare it with "
            f"{config}, or name another folder"
        )
    return (folder / METRICS_FILE).is_file()


def _refuse_other_data(folder: Path, tables: Tables) -> None:
    """A run that was begun on other training records would go on as neither."""
    if (folder / MODEL_FILE).is_file():
        begun = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))["provenance"]["data"]
        if begun.get("train") != tables.hashes.get("train"):
            raise RunError(
                f"{folder} was begun on another training table (its sha256 differs); put that table back to go on "
                "with --resume, or train the new one in another folder"
            )


def _write_description(folder: Path, job: Job) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / CONFIG_FILE, job.task.to_yaml().encode())  # first: it marks the folder as this run's
    provenance = {
        "data": job.tables.hashes,
        "held_out": job.tables.held_out,
        "seed": job.task.train.seed,
        "versions": {name: importlib.metadata.version(name) for name in ("multimodal-transfer", "torch")},
    }
    write_architecture(folder, job.task, job.encoders, job.heads, job.model, provenance)


def _announce(job: Job, say: Say) -> None:
    """Says what was understood: records, weights of every encoder, labels that cannot be right."""
    tables = job.tables
    held_out = " (held out of train)" if tables.held_out is not None else ""
    test = 0 if tables.test is None else len(tables.test)
    say(f"records: {len(tables.train)} train, {len(tables.valid)} valid{held_out}, {test} test")
    for name, encoder in job.encoders.items():
        owner = job.model.encoder_of[name]
        shared = f", shared with {owner}" if owner != name else ""
        say(f"{name}: {encoder.name}, weights {describe_weights(encoder)}, {count(encoder)} parameters{shared}")
    for records in filter(None, (tables.valid, tables.test)):
        for task, labels in unseen_labels(records, job.targets).items():
            listed = _with_hints(labels, job.heads[task]["labels"])
            say(f"warning: {records.source}: {task} has labels that train lacks, counted as wrong: {listed}")


def _with_hints(labels: Sequence[str], known: Sequence[str]) -> str:
    near = {label: nearest_label(label, known) for label in labels}
    return ", ".join(label + (f" ({near[label]}?)" if near[label] is not None else "") for label in labels)


def describe_weights(encoder: Encoder) -> str:
    """Where an encoder's weights come from, for people."""
    provenance = encoder.provenance
    digest = f" (sha256 {provenance.sha256[:12]}, licence {provenance.licence})" if provenance.sha256 else ""
    return provenance.weights + digest


def count(encoder: Encoder) -> str:
    """Parameters, with thousands marked."""
    return f"{sum(parameter.numel() for parameter in encoder.parameters()):,}"


def _summary(state: TrainerState, model: MultimodalModel, *, seconds: float) -> dict[str, Any]:
    score = state.best_score
    of_tasks = {"gradient_cosine": summarise_cosines(state.history), "objectives": reports(model)}
    return {
        "steps": state.step,
        "epochs": len(state.history),
        "best_score": score if score is not None and math.isfinite(score) else None,
        "non_finite_steps": state.non_finite,
        "skipped_rows": state.skipped_rows,
        **{name: found for name, found in of_tasks.items() if found},
        "seconds": seconds,
    }


def _silence(line: str) -> None:
    """Says nothing: only the main process speaks."""
