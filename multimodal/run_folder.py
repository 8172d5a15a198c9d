"""The folder of a run before it is one: free, begun, or finished; and what a resumed run must have in common."""

import importlib.metadata
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from multimodal.choosing.strategy_rule import choose_transfer
from multimodal.config import Task, load_task
from multimodal.domains.settings import TABLES
from multimodal.files import write_atomically
from multimodal.job import Job
from multimodal.run import CONFIG_FILE, METRICS_FILE, MODEL_FILE, RunError, write_architecture

TABLE_NAMES = {"train": "training", "valid": "validation", "source_valid": "source validation"}


def free_folder(folder: Path) -> Path:
    """The folder, or where it is taken the same with a number."""
    number, candidate = 1, folder
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def is_taken(folder: Path) -> bool:
    """Whether the folder holds anything."""
    return folder.exists() and not (folder.is_dir() and all(path.suffix == ".partial" for path in folder.iterdir()))


def is_finished(folder: Path, task: Task, *, resume: bool) -> bool:
    """Whether the run is done; refuses a folder that holds something else."""
    if not is_taken(folder):
        return False
    if not resume:
        raise RunError(f"{folder} is not empty; add --resume to go on with the run in it, or name another folder")
    config = folder / CONFIG_FILE
    if not config.is_file():
        raise RunError(f"{folder} holds no training run (there is no {CONFIG_FILE}); name another folder")
    if _with_followed_links(load_task(config)) != _with_followed_links(task):
        raise RunError(
            f"{folder} holds a run of another config, and --resume only goes on with the same; compare it with "
            f"{config}, or name another folder"
        )
    return (folder / METRICS_FILE).is_file()


def _with_followed_links(task: Task) -> Task:
    """The job with its tables at their last place: one file has many paths."""
    written = {key: getattr(task.data, key) for key in TABLES}
    places = {key: os.path.realpath(path) for key, path in written.items() if path is not None}
    return task.model_copy(update={"data": task.data.model_copy(update=places)})


def refuse_other_data(folder: Path, hashes: Mapping[str, str], left_out: Sequence[int] = ()) -> None:
    """Refuses tables that the run was not begun on: it would be of neither.

    Args:
        hashes: sha256 of the tables that are compared, by their key in ``data``.
        left_out: rows of the training table that are held out as a fold.

    Raises:
        RunError: names the first that differs.
    """
    if not (folder / MODEL_FILE).is_file():
        return
    begun = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))["provenance"]
    other = [TABLE_NAMES.get(key, key) for key in TABLES if key in hashes and begun["data"].get(key) != hashes[key]]
    if other or begun.get("left_out", []) != list(left_out):
        which = f"another {other[0]} table (its sha256 differs)" if other else "another fold of the training table"
        raise RunError(
            f"{folder} was begun on {which}; put that table back to go on with --resume, or train the new one in "
            "another folder"
        )


def refuse_other_weights(folder: Path, job: Job) -> None:
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


def write_description(folder: Path, job: Job) -> None:
    """Writes what the run was told, before it is trained."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / CONFIG_FILE, job.task.to_yaml().encode())  # first: it marks the folder as this run's
    provenance = {
        "data": job.tables.hashes,
        "held_out": job.tables.held_out,
        **({"left_out": job.tables.left_out} if job.tables.left_out else {}),
        "setting": job.tables.setting,
        "seed": job.task.train.seed,
        "transfer": choose_transfer(job.task, job.encoders, job.tables.train).to_json(),
        "versions": {name: importlib.metadata.version(name) for name in ("multimodal-transfer", "torch")},
    }
    write_architecture(folder, job.task, job.encoders, job.heads, job.model, provenance)
