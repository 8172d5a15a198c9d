"""Did transfer help? A job's encoders, frozen, against raw features and against random weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from multimodal.arm_features import Features, arm_features
from multimodal.build import has_random_weights, label_cells
from multimodal.config import Task
from multimodal.job import Job
from multimodal.progress import Say
from multimodal.run import write_json
from multimodal.scratch import scratch_gaps
from multimodal.tables import open_task, read_tables
from multimodal.targets import ClassTarget
from multimodal.token_store import cache_folder
from multimodal.training import describe_weights, log_line
from multimodal.transfer.folds import most_folds
from multimodal.transfer.guard.arms import PROBE, SINGLE, compare_arms, sample_rows

MOST_ROWS = 1000
"""Training records that a task is checked on: more would tell little and take long."""
NO_WEIGHTS = "no encoder comes with weights"


def transfer_check(
    task: Task | str | Path,
    *,
    train: Any = None,
    valid: Any = None,
    root: str | Path | None = None,
    overrides: Sequence[str] = (),
    scratch: bool = False,
    out: str | Path | None = None,
    cache: bool = True,
    say: Say = log_line,
) -> dict[str, Any]:
    """Per classification task: accuracy of each arm, the transfer gap, a verdict and what to do, as JSON.

    Wang et al. (2019), https://arxiv.org/abs/1811.09751, define negative transfer by this gap. It is measured on the
    training table by repeated stratified folds; the model itself is not trained, and the test table not read.

    When not to use: where records belong together (photos of one session): they would stand on both sides of a fold,
    and every arm looks better than it is.

    Args:
        task, train, valid, root, overrides, cache, say: as ``fit`` takes them.
        scratch: also trains the job, and the same from random weights, and compares both on the validation table.
        out: takes the answer as JSON.

    Raises:
        ConfigError: if the job cannot be built.
        RecordError: for a record that cannot be read, with ``data.on_error: raise``.
    """
    task, base = open_task(task, overrides, {"train": train, "valid": valid})
    task = task.model_copy(update={"data": task.data.model_copy(update={"test": None})})
    job = Job.build(task, read_tables(task, train=train, valid=valid, root=root), base)
    kept = cache_folder() if cache else None
    rows = {name: _labelled(job, name) for name in task.tasks if _has_classes(job, name)}
    reasons = {name: _reason(job, name, rows.get(name)) for name in task.tasks}
    measured = {name: labelled for name, labelled in rows.items() if reasons[name] is None}
    tasks = {name: _not_measured(reason) for name, reason in reasons.items()}
    if measured:
        tasks |= _compare(job, measured, kept, say)
    gaps = scratch_gaps(job, list(measured), base, cache=kept, say=say) if scratch and measured else {}
    for name, gap in gaps.items():
        tasks[name]["scratch"] = gap
    result = {"tasks": tasks, "encoders": {name: describe_weights(entry) for name, entry in job.encoders.items()}}
    if out is not None:
        write_json(Path(out), result)
    return result


@dataclass(frozen=True)
class _Labelled:
    """Training records whose class is known."""

    rows: np.ndarray
    classes: np.ndarray
    """Of each, int [n]."""

    def sample(self, seed: int) -> "_Labelled":
        """At most ``MOST_ROWS`` of them."""
        kept = sample_rows(self.classes, MOST_ROWS, seed=seed)
        return _Labelled(self.rows[kept], self.classes[kept])


def _labelled(job: Job, name: str) -> _Labelled:
    target, column = job.targets[name], job.task.label_columns()[name]
    values = label_cells(name, job.task.tasks[name], column, job.tables.train, job.task.data.on_error)
    cells = [target.read({column: value}) for value in values]
    rows = [row for row, cell in enumerate(cells) if cell is not None]
    return _Labelled(np.array(rows), np.array([int(cell) for cell in cells if cell is not None]))


def _has_classes(job: Job, name: str) -> bool:
    target = job.targets[name]
    return isinstance(target, ClassTarget) and not target.open_set


def _reason(job: Job, name: str, labelled: _Labelled | None) -> str | None:
    """Why the gap of a task is not measured; None where it is."""
    if labelled is None:
        kind = job.task.tasks[name].type
        article = "an" if kind == "embedding" else "a"
        return f"it is {article} {kind} task, and arms are compared by the classes that they tell right"
    if all(has_random_weights(job.encoders[entry]) for entry in job.task.task_inputs(name)):
        return NO_WEIGHTS
    if most_folds(labelled.classes) < 2:
        return "no class has two records, so that none can be held out"
    return None


def _not_measured(reason: str | None) -> dict[str, Any]:
    return {"verdict": "not measured", "reason": reason}


def _compare(job: Job, tasks: Mapping[str, _Labelled], cache: Path | None, say: Say) -> dict[str, dict[str, Any]]:
    """Encodes the records of all tasks once, and compares the arms of each."""
    seed, train = job.task.train.seed, job.tables.train
    chosen = {name: labelled.sample(seed) for name, labelled in tasks.items()}
    used = [entry for entry in job.readers if any(entry in job.task.task_inputs(name) for name in tasks)]
    rows = np.unique(np.concatenate([labelled.rows for labelled in chosen.values()]))
    arms, failed = arm_features(job, used, train.subset(rows), cache=cache, say=say)
    if failed:
        say(f"warning: {len(failed)} records that cannot be read were left out; --out lists them")
    answers = {}
    for name, labelled in chosen.items():
        places = np.searchsorted(rows, labelled.rows)
        good = ~np.isin(places, list(failed))
        names, labels, counts = np.unique(labelled.classes[good], return_inverse=True, return_counts=True)
        if len(names) == 0 or counts.max() < 2:
            answers[name] = _not_measured("too few of its records can be read to hold any out")
            continue
        say(f"{name}: comparing arms on {len(labels)} of {len(tasks[name].rows)} labelled records")
        known = job.heads[name]["labels"]
        answers[name] = compare_arms(_task_arms(arms, job.task.task_inputs(name), places[good]), labels, seed=seed) | {
            "labelled_records": len(tasks[name].rows),
            "labels": {known[index]: int(count) for index, count in zip(names, counts, strict=True)},
            "skipped_rows": {str(rows[place]): failed[place].reason for place in places[~good].tolist()},
        }
    return answers


def _task_arms(arms: Mapping[str, Features], inputs: Sequence[str], places: np.ndarray) -> dict[str, np.ndarray]:
    """Arm -> features of the inputs that a task may use, side by side; and an arm for each input alone."""
    parts = {arm: [values[entry][places] for entry in inputs if entry in values] for arm, values in arms.items()}
    features = {arm: np.concatenate(values, axis=1) for arm, values in parts.items() if values}
    singles = {SINGLE + entry: arms[PROBE][entry][places] for entry in inputs} if len(inputs) > 1 else {}
    return features | singles
