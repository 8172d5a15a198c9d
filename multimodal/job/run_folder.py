"""The folder of a run before it is one: free, begun, or finished; and what a resumed run must have in common."""

import errno
import importlib.metadata
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from encoders.preprocessing.registry import CONFIG_FILE as PREPROCESSOR_FILE
from multimodal.config import Job, load_job
from multimodal.config.setting import TABLES
from multimodal.job.job_files import job_files
from multimodal.job.setup import TrainingSetup
from multimodal.run import (
    CONFIG_FILE,
    METRICS_FILE,
    MODEL_FILE,
    OWN_FILES,
    RELIABILITY_FOLDER,
    WRITTEN,
    RunError,
    write_architecture,
)
from multimodal.runtime.files import partial_path, refuse_overwriting, write_atomically
from multimodal.trainer import CHECKPOINTS

logger = logging.getLogger(__name__)

LOCK_FILE = ".lock"
SHOWN = 5
"""Files of others that a message names."""
TABLE_NAMES = {"train": "training", "valid": "validation", "source_valid": "source validation"}


def free_folder(folder: Path) -> Path:
    """The folder, or where it is taken the same with a number."""
    number, candidate = 1, folder
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def is_free(folder: Path) -> bool:
    """True where a training may begin: there is nothing, or a run that came to no checkpoint, and nothing else."""
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    ours = {folder / LOCK_FILE, *run_files(folder)}
    if any(_is_work(path) for path in ours) or any(path not in ours for path in folder.rglob("*") if not path.is_dir()):
        return False
    return is_run(folder) or all(path.suffix == ".partial" or path.name == LOCK_FILE for path in ours)


def is_run(folder: Path) -> bool:
    """True for the folder of a run, begun or finished, unlike one in which somebody keeps a job."""
    try:
        if "provenance" in json.loads((folder / MODEL_FILE).read_text(encoding="utf-8")):
            return True
    except (OSError, ValueError, TypeError):
        pass  # a run that was killed in its first moments has its config alone, as we write it
    try:
        return (folder / CONFIG_FILE).read_text(encoding="utf-8") == load_job(folder / CONFIG_FILE).to_yaml()
    except (OSError, ValueError):
        return False


def run_files(folder: Path) -> list[Path]:
    """The files of a run, and nothing that somebody else put beside them."""
    partial = [str(partial_path(PurePosixPath(pattern))) for pattern in WRITTEN]
    found = [path for pattern in (*WRITTEN, *partial) for path in folder.glob(pattern)]
    for described in folder.glob(f"inputs/*/{PREPROCESSOR_FILE}"):
        found += described.parent.iterdir()  # and what its preprocessor needs
    return [path for path in found if path.is_file()]


def _is_work(path: Path) -> bool:
    """Whether the file took training to make."""
    return path.suffix == ".safetensors" or path.name == METRICS_FILE


@dataclass(frozen=True)
class Destination:
    """Folder that a run goes to, and what becomes of the run in it."""

    folder: Path
    resume: bool = False
    """Continues it."""
    overwrite: bool = False
    """Replaces it."""


def is_finished(destination: Destination, job: Job) -> bool:
    """True where the run is done; rejects a folder that holds something else.

    Raises:
        RunError: says what it holds.
    """
    folder = destination.folder
    if is_free(folder):
        return False
    if not is_run(folder):
        raise RunError(f"{folder} is not empty and holds no training run; name another folder")
    if destination.overwrite:
        return False
    if not destination.resume:
        raise RunError(
            f"{folder} is not empty; add --resume to continue the run in it, --overwrite to replace it, or name "
            "another folder"
        )
    config = folder / CONFIG_FILE
    if _with_followed_links(load_job(config, resolved=True)) != _with_followed_links(job):
        raise RunError(
            f"{folder} holds a run of another config, and --resume continues the same alone; compare it with "
            f"{config}, or name another folder"
        )
    return (folder / METRICS_FILE).is_file()


def _with_followed_links(job: Job) -> Job:
    """The job with its tables at their last place: one file has many paths."""
    written = {key: getattr(job.data, key) for key in TABLES}
    places = {key: os.path.realpath(path) for key, path in written.items() if path is not None}
    return job.model_copy(update={"data": job.data.model_copy(update=places)})


@contextmanager
def writing(destination: Destination) -> Iterator[None]:
    """Makes the folder this process's own inside the block, without the run that it replaces.

    Raises:
        RunError: if another process trains in it, or did since ``is_finished`` looked.
    """
    folder, resume = destination.folder, destination.resume
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("ab") as file:
        _lock(file, folder)
        if not (resume or destination.overwrite or is_free(folder)):
            raise RunError(f"{folder} was trained in meanwhile; name another folder")
        if not resume:
            remove_run(folder)
        yield


def _lock(file: IO[bytes], folder: Path) -> None:
    """Taken until the process ends; of a system without file locks nothing is asked."""
    try:
        import fcntl
    except ModuleNotFoundError:
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock: decoding processes would hold it on
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise RunError(f"another process trains in {folder}; wait until it ends, or name another folder") from error
        # a file system without locks


def remove_run(folder: Path) -> None:
    """Removes the files of a run, and no others."""
    for path in run_files(folder):
        path.unlink()
    for path in (*folder.glob("inputs/*"), *(folder / name for name in ("inputs", CHECKPOINTS, RELIABILITY_FOLDER))):
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()
    left = sorted(path.name for path in folder.iterdir() if path.name != LOCK_FILE)
    if left:
        listed = ", ".join(left[:SHOWN]) + ", ..." * (len(left) > SHOWN)
        logger.warning(f"{folder} holds what no run writes, which is left as it is: {listed}")


def refuse_other_data(folder: Path, hashes: Mapping[str, str], left_out: Sequence[int] = ()) -> None:
    """Refuses tables that the run was not begun on: it would be of neither.

    Args:
        hashes: sha256 of the tables that are compared, by their key in ``data``.
        left_out: rows of the training table that are held out as a fold.

    Raises:
        RunError: names the first that differs.
    """
    description = _description(folder)
    if description is None:
        return
    begun = description["provenance"]
    other = [TABLE_NAMES.get(key, key) for key in TABLES if key in hashes and begun["data"].get(key) != hashes[key]]
    if other or begun.get("left_out", []) != list(left_out):
        which = f"another {other[0]} table (its sha256 differs)" if other else "another fold of the training table"
        raise RunError(
            f"{folder} was begun on {which}; put that table back to continue with --resume, or train the new one in "
            "another folder"
        )


def refuse_other_model(folder: Path, setup: TrainingSetup) -> None:
    """Refuses weights and labels that the run was not begun with.

    Checkpoints leave out encoders that never train, and hold an output for each label, in their order.

    Raises:
        RunError: names the first input or task that differs.
    """
    begun = _description(folder)
    if begun is None:
        return
    for name, encoder in setup.encoders.items():
        if begun["inputs"][name]["provenance"]["sha256"] != encoder.provenance.sha256:
            raise RunError(
                f"{folder} was begun with other weights of inputs.{name} (their sha256 differs); put those back to go "
                "on with --resume, or train with the new ones in another folder"
            )
    for name, arguments in setup.heads.items():
        if list(begun["tasks"][name]["head"].get("labels", ())) != list(arguments.get("labels", ())):
            raise RunError(
                f"{folder} was begun with other labels of tasks.{name}, or in another order; put the records back to "
                "continue with --resume, or train in another folder"
            )


def _description(folder: Path) -> dict[str, Any] | None:
    """What ``write_description`` wrote of the model; None where it wrote nothing yet."""
    path = folder / MODEL_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def refuse_overwriting_inputs(folder: Path, job: Job, base: Path) -> None:
    """Refuses a folder in which a run would overwrite a table or weights of its job.

    Its config may be the run's own, to be resumed, and stays as it is.

    Args:
        base: folder that relative weights start from.
    """
    read = list(job_files(job, job, base))
    for path in (folder, *(folder / name for name in OWN_FILES), *run_files(folder)):
        refuse_overwriting("--out", path, read)


def write_description(folder: Path, setup: TrainingSetup) -> None:
    """Writes what the run was told, before it is trained."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / CONFIG_FILE).is_file():  # else of the same job, maybe in the user's own hand
        write_atomically(folder / CONFIG_FILE, setup.job.to_yaml().encode())  # first: it marks the folder as this run's
    provenance = {
        "data": setup.tables.hashes,
        "held_out": setup.tables.held_out,
        **({"left_out": setup.tables.left_out} if setup.tables.left_out else {}),
        "setting": setup.tables.setting,
        "seed": setup.job.train.seed,
        "transfer": setup.choice.to_json(),
        "versions": {name: importlib.metadata.version(name) for name in ("multimodal-transfer", "torch")},
    }
    write_architecture(folder, setup.job, setup.encoders, setup.heads, setup.model, provenance)
