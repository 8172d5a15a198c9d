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
from multimodal.adapting import add_adaptation, remove_objectives
from multimodal.average_choice import keep_the_better, refuse_unshared_statistics
from multimodal.build import build_strategy
from multimodal.checkpoint import save_tensors
from multimodal.closed_form.fit import fit_heads, without_closed_form
from multimodal.config import Task, load_task
from multimodal.distributed import Processes, processes
from multimodal.files import write_atomically
from multimodal.job import Job, choose_device
from multimodal.moved import Start
from multimodal.progress import Say, format_seconds
from multimodal.results import write_results
from multimodal.run import CONFIG_FILE, METRICS_FILE, MODEL_FILE, WEIGHTS_FILE, Run, RunError, write_architecture
from multimodal.settings import DESCRIPTIONS
from multimodal.source_weights import weigh_source
from multimodal.tables import Tables, open_task, read_tables, unseen_labels
from multimodal.targets import nearest_label
from multimodal.token_store import cache_folder
from multimodal.trainer import CHECKPOINTS, Trainer
from multimodal.trainer_state import TrainerOptions, TrainerState
from multimodal.transfer import Phase
from multimodal.transfer_choice import choose_transfer
from multimodal.transfer_plan import plan_training
from multimodal.weight_averaging import build_averaging

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
    source: Any = None,
    source_valid: Any = None,
    unlabelled: Any = None,
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
        train, valid, test, source, source_valid, unlabelled: tables that stand in the place of ``task.data``: a
            path, a DataFrame or a list of dicts.
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
    given = {"train": train, "valid": valid, "test": test}
    given |= {"source": source, "source_valid": source_valid, "unlabelled": unlabelled}
    task, base = open_task(task, overrides, given)
    folder = Path(out) if out is not None else _free_folder(Path("runs") / task.name)
    with processes() as group:
        say = say if group.is_main else _silence
        if _is_finished(folder, task, resume=resume):
            say(f"{folder} holds this run, finished; nothing to do")
            return Run(folder)
        tables = read_tables(task, root=root, **given)
        say(f"setting: {tables.setting} ({DESCRIPTIONS[tables.setting]})")
        job = Job.build(task, tables, base)
        device = choose_device(job.task.train.device, group)
        options = job.trainer_options(device)
        _refuse_other_data(folder, tables)
        kept = cache_folder() if cache else None
        job = weigh_source(job, base, device, cache=kept, say=say)
        _refuse_other_weights(folder, job)
        group.wait()  # nobody writes before everybody has looked at the folder
        if group.is_main:
            _write_description(folder, job)
        _announce(job, say)
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
        names = {"train": "training", "source": "source", "unlabelled": "unlabelled"}
        other = [name for key, name in names.items() if begun.get(key) != tables.hashes.get(key)]
        if other:
            raise RunError(
                f"{folder} was begun on another {other[0]} table (its sha256 differs); put that table back to go on "
                "with --resume, or train the new one in another folder"
            )


def _refuse_other_weights(folder: Path, job: Job) -> None:
    """Checkpoints leave out encoders that never train, so that they must be those that the run began with."""
    if not (folder / MODEL_FILE).is_file():
        return
    begun = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))["inputs"]
    for name, encoder in job.encoders.items():
        if begun[name]["provenance"]["sha256"] != encoder.provenance.sha256:
            raise RunError(
                f"{folder} was begun with other weights of inputs.{name} (their sha256 differs); put those back to go "
                "on with --resume, or train with the new ones in another folder"
            )


def _write_description(folder: Path, job: Job) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / CONFIG_FILE, job.task.to_yaml().encode())  # first: it marks the folder as this run's
    provenance = {
        "data": job.tables.hashes,
        "held_out": job.tables.held_out,
        "setting": job.tables.setting,
        "seed": job.task.train.seed,
        "transfer": choose_transfer(job.task, job.encoders, job.tables.train).to_json(),
        "versions": {name: importlib.metadata.version(name) for name in ("multimodal-transfer", "torch")},
    }
    write_architecture(folder, job.task, job.encoders, job.heads, job.model, provenance)


def _announce(job: Job, say: Say) -> None:
    """Says what was understood: records, weights of every encoder, labels that cannot be right."""
    tables = job.tables
    held_out = " (held out of train)" if tables.held_out is not None else ""
    test = 0 if tables.test is None else len(tables.test)
    beside = {"source": tables.source, "unlabelled": tables.unlabelled}
    counts = "".join(f", {len(table)} {name}" for name, table in beside.items() if table is not None)
    say(f"records: {len(tables.train)} train, {len(tables.valid)} valid{held_out}, {test} test{counts}")
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


def _silence(line: str) -> None:
    """Says nothing: only the main process speaks."""
