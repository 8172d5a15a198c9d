"""What heads in closed form need of a job. Never imports torch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multimodal.config import Input, Job

COMPUTED_HEADS = ("softmax", "svm", "class_mean", "knn")
"""Those that are not trained step by step."""
TRAINED = "linear"
"""The head that the trainer trains."""


def closed_form_tasks(job: "Job") -> list[str]:
    """Names of the tasks whose heads are computed."""
    return [name for name, task in job.tasks.items() if task.head in COMPUTED_HEADS]


def closed_form_inputs(job: "Job") -> list[str]:
    """Inputs that such a task reads, in config order."""
    read = {entry for name in closed_form_tasks(job) for entry in job.task_inputs(name)}
    return [entry for entry in job.inputs if entry in read]


def check_closed_form(job: "Job") -> None:
    """Refuses a job whose heads cannot be computed, or that sets what would have no effect on them.

    Raises:
        ValueError: says what is wrong, and what to write instead.
    """
    for name in closed_form_tasks(job):
        place, fusion = f"tasks.{name}.head is {job.tasks[name].head}", job.fusion
        if fusion.name != "concat" or fusion.dim is not None:
            given = fusion.name if fusion.dim is None else f"{fusion.name} with dim"
            raise ValueError(
                f"{place}, which needs a fusion with nothing to train, and {given} trains; set fusion.name: concat "
                f"and leave fusion.dim out, or set tasks.{name}.head: {TRAINED}"
            )
        trained = [entry for entry in job.task_inputs(name) if not is_frozen(job, entry)]
        if trained:
            raise ValueError(
                f"{place}, which needs frozen encoders, and transfer.strategy {job.transfer.strategy} may train "
                f"{' and '.join(trained)}; set transfer.strategy: linear_probe or "
                f"{' and '.join(f'inputs.{entry}.frozen: true' for entry in trained)}, or tasks.{name}.head: {TRAINED}"
            )
        layered = [entry for entry in job.task_inputs(name) if _has_new_layers(job, entry)]
        if layered:
            raise ValueError(
                f"{place}, which is computed from what frozen encoders say, and inputs.{layered[0]} has new_layers "
                f"over it, which train; leave new_layers out, or set tasks.{name}.head: {TRAINED}"
            )
        for key in ("dropout", "modality_dropout", "unimodal_weight"):
            if getattr(fusion, key):
                raise ValueError(f"{place}, on which fusion.{key} has no effect; leave it out, or train the head")
        for key in ("source", "adapt"):
            if getattr(job.transfer, key) is not None:
                raise ValueError(
                    f"{place}, which is computed from data.train alone, so that transfer.{key} has no effect; leave "
                    f"it out, or set tasks.{name}.head: {TRAINED}"
                )


def is_frozen(job: "Job", name: str) -> bool:
    """Whether nothing trains an input's encoder."""
    return job.transfer.strategy == "linear_probe" or _owner(job, name).frozen


def _has_new_layers(job: "Job", name: str) -> bool:
    return _owner(job, name).new_layers > 0


def _owner(job: "Job", name: str) -> "Input":
    """The input whose encoder this one uses."""
    share = job.inputs[name].share
    return job.inputs[name if share is None else share]
