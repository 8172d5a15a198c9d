"""Rules over the whole job, in order: each yields what does not fit together, and what to write instead."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from encoders.preprocessing.base import nearest_hint
from multimodal.config.frozen_rules import closed_form_problems, map_problems
from multimodal.config.pair_rules import contrastive_problems
from multimodal.task_types import EMBEDDING, TASK_TYPES, task_type

if TYPE_CHECKING:
    from multimodal.config.job import Job
    from multimodal.config.train import Train


def grouped_task(job: "Job") -> str | None:
    """The task whose labels are grouped in every batch; None where records come as they are."""
    return next((name for name, task in job.tasks.items() if task.records_per_label is not None), None)


def group_problems(job: "Job", processes: int = 1) -> Iterator[str]:
    """Groups by the labels of several tasks, and batches that several processes cannot share without cutting one."""
    name, train = grouped_task(job), job.train
    if name is None:
        return
    draws = [n for n, task in job.tasks.items() if task.records_per_label or task.imbalance == "balanced_sampler"]
    others = [other for other in draws if other != name]
    if others:
        yield (
            f"tasks {name} and {others[0]} both say which records are drawn (records_per_label, balanced_sampler), and "
            "only one can; leave it out of the other"
        )
    size = job.tasks[name].records_per_label or 1
    multiple = size * processes * train.accumulate
    if train.batch_size % multiple:
        yield (
            f"train.batch_size is {train.batch_size}, of which {processes} processes with {train.accumulate} parts "
            f"(train.accumulate) each must get whole groups of {size} records (tasks.{name}.records_per_label); set it "
            f"to a multiple of {multiple}"
        )


def share_problems(train: "Train", tables: int, processes: int) -> Iterator[str]:
    """Batches of which some micro-batch would have no record of a table.

    Args:
        tables: labelled ones that share a batch evenly; unlabelled records are as many as of all of these.
    """
    fewest, cuts = train.batch_size // tables, processes * train.accumulate
    if fewest < cuts:
        yield (
            f"a step has {fewest} records of a table, for {processes} processes with {train.accumulate} parts of the "
            "batch (train.accumulate) each, and every part needs one; set train.batch_size "
            f"{cuts / fewest:.2g} times as high"
        )


def _input_problems(job: "Job") -> Iterator[str]:
    dropout, adapt = job.fusion.modality_dropout, job.transfer.adapt
    named = {
        "fusion.modality_dropout": dropout if isinstance(dropout, dict) else (),
        "transfer.lora.targets": job.transfer.lora.targets,
        "transfer.adapt.on": adapt.on if adapt is not None and adapt.on != "fused" else (),
        **{f"tasks.{name}.inputs": task.inputs or () for name, task in job.tasks.items()},
    }
    for place, names in named.items():
        for name in names:
            if name not in job.inputs:
                yield f"{place}: there is no input {name!r}; there are {', '.join(job.inputs)}"
    for name, entry in job.inputs.items():
        if entry.share is not None and (entry.share not in job.inputs or job.inputs[entry.share].encoder is None):
            yield f"inputs.{name}.share: {entry.share!r} is not an input with an encoder of its own"


def _task_problems(job: "Job") -> Iterator[str]:
    types = [task_type(name) for name in TASK_TYPES.built_in] + [task.kind for task in job.tasks.values()]
    suffixes = tuple({suffix for kind in types for suffix in kind.decoding.columns if suffix})
    for name, task in job.tasks.items():
        if name in ("error", EMBEDDING) or name.endswith(suffixes):
            yield f"tasks.{name}: this name is taken in the predictions; take another"
        if task.head == "zero_shot":
            job.zero_shot_input(name)
        yield from task.kind.job_problems(job, name)


def _strategy_problems(job: "Job") -> Iterator[str]:
    untrained = [name for name, task in job.tasks.items() if task.head != "zero_shot"]
    if job.transfer.strategy == "none" and untrained:
        yield (
            f"transfer.strategy is none, which leaves the head of {' and '.join(untrained)} with random weights; "
            "set head: zero_shot, or take another strategy"
        )


def _metric_problems(job: "Job") -> Iterator[str]:
    known = ["mean", *(f"{name}.{metric}" for name, task in job.tasks.items() for metric in task.kind.metrics)]
    if job.train.metric not in known:
        yield f"train.metric: there is no metric {job.train.metric!r}{nearest_hint(job.train.metric, known)}"


def _imbalance_problems(job: "Job") -> Iterator[str]:
    balanced = [name for name, task in job.tasks.items() if task.imbalance == "balanced_sampler"]
    adjusted = [name for name, task in job.tasks.items() if task.imbalance == "logit_adjustment"]
    if len(balanced) > 1:
        yield f"tasks {' and '.join(balanced)} both want balanced_sampler; only one can have it"
    if balanced and adjusted:
        yield (
            f"tasks.{balanced[0]} wants balanced_sampler, which changes how often the classes of tasks."
            f"{adjusted[0]} are drawn, and that one wants logit_adjustment: leave one of them out"
        )


RULES: tuple[Callable[["Job"], Iterator[str]], ...] = (
    _input_problems,
    _task_problems,
    contrastive_problems,
    closed_form_problems,
    map_problems,
    _strategy_problems,
    _metric_problems,
    _imbalance_problems,
    group_problems,
)
"""Rules of names come first, since the others look the names up."""
