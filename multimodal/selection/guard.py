"""The guard at the end of a training: did the weights help, and is what was trained what should be shipped?"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from multimodal.console import transfer_lines
from multimodal.job import TrainingSetup
from multimodal.records import Records
from multimodal.run import GUARD_FILE
from multimodal.runtime.files import write_json
from multimodal.runtime.progress import quiet
from multimodal.runtime.runtime import Runtime
from multimodal.selection.arm_features import Features, probe_features
from multimodal.selection.labelled import LabelledRecords, correct_predictions
from multimodal.selection.task_gaps import compare_tasks, measurable, not_measured, used_inputs
from multimodal.splits.groups import record_groups
from multimodal.transfer.guard.arms import PROBE, SINGLE
from multimodal.transfer.guard.held_out import fit_probe
from multimodal.transfer.guard.trained import MODEL, compare_trained

logger = logging.getLogger(__name__)

GUARD_ROWS = 300
"""Training records that the arms are cross-validated on: fewer than ``transfer-check`` takes, to be cheap."""
GUARD_REPEATS = 1
"""Of its folds, where ``transfer-check`` takes three."""
PROBE_ROWS = 1000
"""Training records that the probes beside the trained model are fitted to, and validation records of both."""


def guard_run(setup: TrainingSetup, base: Path, folder: Path, runtime: Runtime) -> dict[str, Any]:
    """Measures the transfer gap of a trained job and writes it to ``transfer.json``; never changes the model.

    The arms of ``transfer-check`` on a few hundred training records, with the encoders as they were before the
    training; and the trained model against probes on the validation records: the probes are fitted to at most 1,000
    training records, the model was trained on all, so that a model below them is to be believed.

    When not to use: for a close decision; ``transfer-check`` takes more records, and can train from scratch.

    Args:
        setup: as it was trained.
        base: folder that relative weights start from.
    """
    if setup.job.transfer.guard == "off":
        result = {"tasks": {name: not_measured("transfer.guard is off") for name in setup.job.tasks}}
    else:
        labelled, reasons = measurable(setup)
        tasks = {name: not_measured(reasons[name]) if name in reasons else {} for name in setup.job.tasks}
        with quiet():  # all of it was logged before
            result = {"tasks": tasks | (_measure(setup, labelled, base, runtime) if labelled else {})}
    write_json(folder / GUARD_FILE, result)
    logger.info(f"did the weights help? {GUARD_FILE} has all of this:")
    for line in transfer_lines(result):
        logger.info(line)
    return result


def _measure(
    setup: TrainingSetup, labelled: Mapping[str, LabelledRecords], base: Path, runtime: Runtime
) -> dict[str, dict[str, Any]]:
    with torch.random.fork_rng():
        before = TrainingSetup.build(setup.job, setup.tables, base)
    tasks = compare_tasks(before, labelled, GUARD_ROWS, runtime, repeats=GUARD_REPEATS)
    compared = {name: labelled[name] for name, values in tasks.items() if values.get("metric") == "accuracy"}
    for name, values in _trained(setup, before, compared, tasks, runtime).items():
        tasks[name]["trained"] = values
    return tasks


def _trained(
    setup: TrainingSetup,
    before: TrainingSetup,
    labelled: Mapping[str, LabelledRecords],
    measured: Mapping[str, Mapping[str, Any]],
    runtime: Runtime,
) -> dict[str, dict[str, Any]]:
    """Task -> the trained model against probes that were fitted to training records, on validation records."""
    if not labelled:
        return {}
    seed, valid = setup.job.train.seed, _sample(setup.tables.valid, setup.job.train.seed)
    chosen = {name: rows.sample(PROBE_ROWS, seed) for name, rows in labelled.items()}
    rows = np.unique(np.concatenate([some.rows for some in chosen.values()]))
    tables = [setup.tables.train.subset(rows), valid]
    (ours, failed), (theirs, _) = probe_features(before, used_inputs(setup, labelled), tables, runtime)
    column = setup.job.data.group
    groups = record_groups(valid, column if column in valid.columns else None)
    found = {}
    for name, (truth, is_right) in correct_predictions(setup, valid, labelled).items():
        if len(truth.rows) == 0:
            continue
        places = np.searchsorted(rows, chosen[name].rows)
        good = ~np.isin(places, list(failed))
        classes, right = chosen[name].classes[good], {MODEL: is_right}
        for arm, inputs in _arms(setup, name, measured[name]).items():
            probe = fit_probe(_side_by_side(ours, inputs, places[good]), classes, len(setup.heads[name]["labels"]))
            answered = probe.predict(_side_by_side(theirs, inputs, truth.rows))
            right[arm] = (answered == truth.targets).astype(np.float64)
        compared = compare_trained(right, groups=None if groups is None else groups[truth.rows], seed=seed)
        found[name] = {**compared, "probe_records": len(classes), "trained_records": len(labelled[name])}
    return found


def _arms(setup: TrainingSetup, name: str, measured: Mapping[str, Any]) -> dict[str, list[str]]:
    """Arm -> its inputs: all of the task's, and the one that was best alone by the folds of the training records."""
    together = {PROBE: setup.job.task_inputs(name)}
    if measured["inputs"] is None:
        return together
    best = measured["inputs"]["against"]
    return together | {SINGLE + best: [best]}


def _side_by_side(features: Features, inputs: list[str], rows: np.ndarray) -> np.ndarray:
    return np.concatenate([features[entry][rows] for entry in inputs], axis=1)


def _sample(records: Records, seed: int) -> Records:
    """At most ``PROBE_ROWS`` of them."""
    rows = np.random.default_rng(seed).permutation(len(records))[:PROBE_ROWS]
    return records.subset(np.sort(rows).tolist())
