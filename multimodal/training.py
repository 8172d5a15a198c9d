"""From a job description to a trained run."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from multimodal.builders.runtime import build_runtime
from multimodal.check.first_look import look_first
from multimodal.config import Job
from multimodal.config.setting import TABLES
from multimodal.console import progress_shown
from multimodal.job import TrainingSetup
from multimodal.job.fitted_maps import fit_source_maps
from multimodal.job.run_folder import (
    Destination,
    free_folder,
    is_finished,
    is_free,
    is_run,
    refuse_other_data,
    refuse_other_model,
    refuse_overwriting_inputs,
    write_description,
    writing,
)
from multimodal.job.source_weights import weight_source_records
from multimodal.job.summary import log_summary
from multimodal.job.train_job import train_job
from multimodal.results import write_results
from multimodal.run import RANKING_FILE, Run
from multimodal.runtime.distributed import processes
from multimodal.runtime.files import open_cache, require_temporary_folder, write_json
from multimodal.runtime.progress import format_seconds
from multimodal.runtime.runtime import Runtime, choose_precision
from multimodal.runtime.torch_state import isolated_torch_state
from multimodal.selection.guard import guard_run
from multimodal.selection.ranking import run_rankings, with_choices
from multimodal.splits.tables import Tables, file_hashes, open_job, read_tables

logger = logging.getLogger(__name__)


@isolated_torch_state()
@progress_shown()
def fit(
    job: Job | str | Path,
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
    encoder: Literal["auto"] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    cache: bool = True,
) -> Run:
    """Trains a job and returns its run.

    Args:
        job: the job, or the path of its YAML.
        train, valid, test, source, source_valid, unlabelled: tables that stand in the place of ``job.data``: a
            path, a DataFrame or a list of dicts.
        out: folder of the run; left out: ``runs/NAME``, numbered where that is taken.
        root: folder of the media, for tables that are not files; left out: the working directory.
        overrides: "a.b=c" each, changes to the job; the value is read as YAML.
        encoder: "auto" takes the best candidate of every input that has ``candidates``; see ``rank``.
        resume: continues the run in ``out``; where there is none, or one without a checkpoint, one is started.
        overwrite: replaces the run in ``out`` once the new one can begin; files that no run writes are left.
        cache: keeps the tokens of frozen encoders on disk, for later runs; False keeps them for this one only.

    Raises:
        ConfigError: if the job cannot be built.
        RunError: if ``out`` holds something else, or another process trains in it.
        OverwriteError: if a table or weights lie where the run is written.
        RecordError: for a record that cannot be read, with ``data.on_error: raise``.
        TrainingError: if the loss stays non-finite.
    """
    if resume and overwrite:
        raise ValueError("resume continues a run and overwrite replaces it; give one of them")
    if resume and out is None:
        raise ValueError("resume continues the run in a folder; name it with out")
    given = {"train": train, "valid": valid, "test": test}
    given |= {"source": source, "source_valid": source_valid, "unlabelled": unlabelled}
    job, base = open_job(job, overrides, given)
    folder = Path(out) if out is not None else free_folder(Path("runs") / job.name)
    refuse_overwriting_inputs(folder, job, base)
    with processes() as group:
        kept, tables, rankings = open_cache() if cache else None, None, None
        fresh = is_free(folder) or (overwrite and is_run(folder))
        if encoder == "auto" and (resume or fresh):
            tables = read_tables(job, **given, root=root)
            rankings = run_rankings(None if fresh else folder, job, tables, base, build_runtime(job, group, kept))
            job = with_choices(job, base, rankings)
        destination = Destination(folder, resume=resume, overwrite=overwrite)
        if is_finished(destination, job):
            refuse_other_data(folder, file_hashes(job.data.model_dump(include=set(TABLES))))
            logger.info(f"{folder} holds this run, finished; nothing to do")
            return Run(folder)
        if tables is None:
            tables = read_tables(job, **given, root=root)
        fit_tables(job, tables, base, destination, build_runtime(job, group, kept), rankings=rankings)
    return Run(folder)


def fit_tables(
    job: Job,
    tables: Tables,
    base: Path,
    destination: Destination,
    runtime: Runtime,
    *,
    rankings: Mapping[str, Any] | None = None,
) -> None:
    """Trains a job like ``fit``, on tables that are read already, into a folder that is not finished.

    Args:
        rankings: what chose the encoders, kept beside the config.
    """
    require_temporary_folder()
    setup = TrainingSetup.build(job, tables, base)
    choose_precision(job.train.precision, runtime.device)  # rejects one before anything is written
    compared = {name: sha256 for name, sha256 in tables.hashes.items() if name != "test"}  # read once trained
    folder = destination.folder
    destination = replace(destination, resume=destination.resume and not is_free(folder))
    if destination.resume:
        refuse_other_data(folder, compared, tables.left_out)
        refuse_other_model(folder, setup)
    log_summary(setup)
    look_first(setup)
    setup = fit_source_maps(setup, runtime)
    setup = weight_source_records(setup, base, runtime)
    runtime.processes.wait()  # nobody writes before everybody has looked at the folder
    with writing(destination) if runtime.processes.is_main else nullcontext():
        if runtime.processes.is_main:
            write_description(folder, setup)
            if rankings is not None:
                write_json(folder / RANKING_FILE, rankings)
        setup, summary = train_job(setup, folder, runtime, resume=destination.resume)
        if runtime.processes.is_main:
            guard_run(setup, base, folder, runtime)
            write_results(setup, folder, summary)
            logger.info(f"trained {summary['steps']} steps in {format_seconds(summary['seconds'])}: {folder}")
    runtime.processes.wait()  # the main process writes when the others have trained; all may read the run then
