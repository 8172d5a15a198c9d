"""The arms of a job's tasks, compared on its training records; and why those of other tasks are not."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from multimodal.builders.encoders import has_random_weights
from multimodal.job import TrainingSetup
from multimodal.runtime.runtime import Runtime
from multimodal.selection.arm_features import Features, arm_features
from multimodal.selection.labelled import LabelledRecords, labelled_records
from multimodal.transfer.guard.arms import PROBE, REPEATS, SINGLE, compare_arms, compare_numbers

logger = logging.getLogger(__name__)

NO_WEIGHTS = "no encoder comes with weights"


def measurable(setup: TrainingSetup) -> tuple[dict[str, LabelledRecords], dict[str, str]]:
    """The training records of each task whose gap can be measured, and why that of the others cannot."""
    job = setup.job
    labelled = labelled_records(job.tasks, setup.datasets.targets, setup.tables.train, job.data, numbers=True)
    found = {name: _reason(setup, name, labelled.get(name)) for name in setup.job.tasks}
    reasons = {name: reason for name, reason in found.items() if reason is not None}
    return {name: rows for name, rows in labelled.items() if name not in reasons}, reasons


def _reason(setup: TrainingSetup, name: str, labelled: LabelledRecords | None) -> str | None:
    """Why the gap of a task is not measured; None where it is."""
    if setup.tables.setting == "transductive":
        return "there are no target labels"
    if labelled is None:
        kind = setup.job.tasks[name].type
        article = "an" if kind[0] in "aeiou" else "a"
        return f"it is {article} {kind} task, and arms are compared by classes or by numbers"
    if all(has_random_weights(setup.encoders[entry]) for entry in setup.job.task_inputs(name)):
        return NO_WEIGHTS
    return labelled.reason


def not_measured(reason: str) -> dict[str, Any]:
    """Result of a task without a gap, JSON."""
    return {"verdict": "not measured", "reason": reason}


def compare_tasks(
    setup: TrainingSetup,
    tasks: Mapping[str, LabelledRecords],
    most: int,
    runtime: Runtime,
    *,
    repeats: int = REPEATS,
) -> dict[str, dict[str, Any]]:
    """Encodes the records of all tasks once, and compares the arms of each; nothing where there is no task.

    Args:
        most: records of each task.
        repeats: of the folds.
    """
    if not tasks:
        return {}
    seed, train = setup.job.train.seed, setup.tables.train
    chosen = {name: labelled.sample(most, seed) for name, labelled in tasks.items()}
    rows = np.unique(np.concatenate([labelled.rows for labelled in chosen.values()]))
    arms, failed = arm_features(setup, used_inputs(setup, tasks), train.subset(rows), runtime)
    if failed:
        logger.warning(f"{len(failed)} records that cannot be read were left out; --out lists them")
    found = {}
    for name, labelled in chosen.items():
        places = np.searchsorted(rows, labelled.rows)
        good = ~np.isin(places, list(failed))
        readable = labelled.take(good)
        if readable.reason is not None:
            unread = "too few of its records can be read to hold any out"
            found[name] = not_measured(readable.reason if good.all() else unread)
            continue
        logger.info(f"{name}: comparing arms on {len(readable)} of {len(tasks[name])} labelled records")
        features = task_arms(arms, setup.job.task_inputs(name), places[good])
        found[name] = _compare(features, readable, setup.heads[name].get("labels"), repeats, seed) | {
            "labelled_records": len(tasks[name]),
            "skipped_rows": {str(rows[place]): failed[place].reason for place in places[~good].tolist()},
        }
    return found


def _compare(
    features: Mapping[str, np.ndarray], labelled: LabelledRecords, known: Sequence[str] | None, repeats: int, seed: int
) -> dict[str, Any]:
    names, labels, counts = np.unique(labelled.classes, return_inverse=True, return_counts=True)
    if labelled.numbers is not None:
        return compare_numbers(features, labelled.numbers, labels, groups=labelled.groups, repeats=repeats, seed=seed)
    assert known is not None  # of a classification
    return compare_arms(features, labels, groups=labelled.groups, repeats=repeats, seed=seed) | {
        "labels": {known[index]: int(count) for index, count in zip(names, counts, strict=True)}
    }


def used_inputs(setup: TrainingSetup, tasks: Iterable[str]) -> list[str]:
    """The inputs that one of the tasks may use, in config order."""
    return [entry for entry in setup.datasets.readers if any(entry in setup.job.task_inputs(name) for name in tasks)]


def task_arms(arms: Mapping[str, Features], inputs: Sequence[str], places: np.ndarray) -> dict[str, np.ndarray]:
    """Arm -> features of the inputs that a task may use, side by side; and an arm for each input alone."""
    parts = {arm: [values[entry][places] for entry in inputs if entry in values] for arm, values in arms.items()}
    features = {arm: np.concatenate(values, axis=1) for arm, values in parts.items() if values}
    singles = {SINGLE + entry: arms[PROBE][entry][places] for entry in inputs} if len(inputs) > 1 else {}
    return features | singles
