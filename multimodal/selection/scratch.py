"""The same job with random encoders and the same budget: the dear arm of a transfer check."""

import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from multimodal.config import Job
from multimodal.config.frozen_rules import TRAINED
from multimodal.job import TrainingSetup
from multimodal.job.fitted_maps import fit_source_maps
from multimodal.job.train_job import train_job
from multimodal.plugins import can_train
from multimodal.runtime.runtime import Runtime
from multimodal.selection.labelled import correct_predictions
from multimodal.transfer.guard.arms import estimate
from multimodal.transfer.guard.gaps import Gaps
from multimodal.transfer.guard.verdict import paired_bootstrap_interval

logger = logging.getLogger(__name__)


def scratch_gaps(setup: TrainingSetup, tasks: Sequence[str], base: Path, runtime: Runtime) -> dict[str, Any]:
    """Task -> accuracy on the validation table of the job as configured, of the same from scratch, and their gap.

    Trains both. The validation table chose the best epoch of both and one training each is compared, so that the
    interval is optimistic.

    When not to use: for the verdict.

    Args:
        tasks: classification tasks.
        base: folder that relative weights start from.
    """
    configured, scratch = (
        _right(TrainingSetup.build(job, setup.tables, base), tasks, name, runtime)
        for name, job in (("as configured", setup.job), ("from scratch", from_scratch(setup)))
    )
    return {name: _gap(configured[name], scratch[name], setup.job.train.seed) for name in tasks}


def from_scratch(setup: TrainingSetup) -> Job:
    """The job with every encoder's weights random and all of them trained: a frozen random encoder learns nothing.

    Encoders that cannot train stay as they are.
    """
    inputs = {
        name: entry.model_copy(
            update={
                "encoder": setup.encoders[name].name,
                "weights": None,
                "frozen": False,
                "map": None,
                "learning_rate_scale": None,
                "options": setup.encoders[name].architecture(),
            }
        )
        if entry.share is None and can_train(setup.encoders[name].name)
        else entry
        for name, entry in setup.job.inputs.items()
    }
    # of random weights all train whole; there is no source to hold them near, and no probe to average with
    alone = {"strategy": "finetune", "views": 1, "l2_sp": 0.0, "distill": 0.0, "average": "none"}
    source = setup.job.transfer.source
    if source is not None:
        alone["source"] = source.model_copy(update={"map": "none", "components": None})
    transfer = setup.job.transfer.model_copy(update=alone)
    tasks = {name: task.model_copy(update={"head": TRAINED}) for name, task in setup.job.tasks.items()}
    return setup.job.model_copy(update={"inputs": inputs, "transfer": transfer, "tasks": tasks})


def _right(setup: TrainingSetup, tasks: Sequence[str], arm: str, runtime: Runtime) -> dict[str, np.ndarray]:
    """Task -> whether the trained job is right, of each labelled validation record that can be read."""
    logger.info(f"training the job {arm}")
    setup = fit_source_maps(setup, runtime)
    with TemporaryDirectory() as folder:
        train_job(setup, Path(folder), runtime, resume=False)
    return {name: right for name, (_, right) in correct_predictions(setup, setup.tables.valid, tasks).items()}


def _gap(configured: np.ndarray, scratch: np.ndarray, seed: int) -> dict[str, Any]:
    records = len(configured)
    if records == 0:
        return {"records": 0, "configured": None, "scratch": None, "gap": None}
    gap = configured - scratch
    interval = paired_bootstrap_interval(Gaps(gap.mean(keepdims=True), gap, 0.0), seed=seed)
    accuracies = {"configured": float(configured.mean()), "scratch": float(scratch.mean())}
    return {"records": records, **accuracies, "gap": estimate(float(gap.mean()), interval), "optimistic": True}
