"""Did transfer help? A job's encoders, frozen, against raw features and against random weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from multimodal.builders.runtime import build_runtime
from multimodal.config import Job
from multimodal.config.setting import SOURCE, UNLABELLED
from multimodal.console import progress_shown
from multimodal.job import TrainingSetup
from multimodal.job.job_files import job_files
from multimodal.job.summary import describe_weights
from multimodal.runtime.files import open_cache, refuse_overwriting, write_json
from multimodal.runtime.torch_state import isolated_torch_state
from multimodal.selection.scratch import scratch_gaps
from multimodal.selection.task_gaps import compare_tasks, measurable, not_measured
from multimodal.splits.tables import open_job, read_tables

MOST_ROWS = 1000
"""Training records that a task is checked on: more would tell little and take long."""


@isolated_torch_state()
@progress_shown()
def transfer_check(
    job: Job | str | Path,
    *,
    train: Any = None,
    valid: Any = None,
    root: str | Path | None = None,
    overrides: Sequence[str] = (),
    scratch: bool = False,
    out: str | Path | None = None,
    cache: bool = True,
) -> dict[str, Any]:
    """Per classification task or regression: score of each arm, the transfer gap, a verdict and what to do, as JSON.

    Wang et al. (2019), https://arxiv.org/abs/1811.09751, define negative transfer by this gap. It is measured on the
    training table by repeated stratified folds; the model itself is not trained, and the test table not read.

    When not to use: where records belong together (photos of one session) and no column says so: they would stand on
    both sides of a fold, and every arm looks better than it is. ``data.group`` names that column.

    Args:
        job, train, valid, root, overrides, cache: as ``fit`` takes them.
        scratch: also trains the job, and the same from random weights, and compares both on the validation table.
        out: takes the answer as JSON.

    Raises:
        ConfigError: if the job cannot be built.
        RecordError: for a record that cannot be read, with ``data.on_error: raise``.
        OverwriteError: if ``out`` is a file of the job: its config, a table, weights, one of its media.
    """
    given = job
    job, base = open_job(job, overrides, {"train": train, "valid": valid})
    read = list(job_files(given, job, base))
    job = job.model_copy(update={"data": job.data.model_copy(update={"test": None})})
    tables = read_tables(job, train=train, valid=valid, root=root).without(SOURCE, UNLABELLED)
    if out is not None:
        media = (path for table in tables.all() for path in table.media([*map(job.input_column, job.inputs)]))
        refuse_overwriting("--out", out, read, media)
    setup = TrainingSetup.build(job, tables, base)
    runtime = build_runtime(job, cache=open_cache() if cache else None)
    labelled, reasons = measurable(setup)
    tasks = {name: not_measured(reason) for name, reason in reasons.items()}
    tasks = {name: tasks.get(name, {}) for name in job.tasks} | compare_tasks(setup, labelled, MOST_ROWS, runtime)
    classes = [name for name, some in labelled.items() if some.numbers is None]
    gaps = scratch_gaps(setup, classes, base, runtime) if scratch and classes else {}
    for name, gap in gaps.items():
        tasks[name]["scratch"] = gap
    result = {"tasks": tasks, "encoders": {name: describe_weights(entry) for name, entry in setup.encoders.items()}}
    if out is not None:
        write_json(Path(out), result)
    return result
