"""Contrastive tasks in a job: the two inputs that each compares, and what suits them. Never imports torch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multimodal.config import Fusion, Task


def separates_inputs(fusion: "Fusion") -> bool:
    """Whether the fused vector is the inputs side by side."""
    return fusion.name == "late" or (fusion.name == "concat" and fusion.dim is None)


def are_views(task: "Task", name: str) -> bool:
    """Whether a task compares two views of one value: inputs that read one column through one encoder."""
    if task.tasks[name].type != "contrastive":
        return False
    inputs = task.task_inputs(name)
    owners = {entry if task.inputs[entry].share is None else task.inputs[entry].share for entry in inputs}
    return len(owners) == 1 and len({task.input_column(entry) for entry in inputs}) == 1


def evaluation_views(task: "Task") -> set[str]:
    """Inputs that are augmented in evaluation, too, as two views of one value would else be equal.

    Those that another task reads are not.
    """
    views = {entry for name in task.tasks if are_views(task, name) for entry in task.task_inputs(name)}
    return views.difference(*(task.task_inputs(name) for name in task.tasks if not are_views(task, name)))


def check_contrastive_inputs(task: "Task", name: str) -> None:
    """Refuses what a contrastive task cannot learn from.

    Raises:
        ValueError: says what is wrong, and what to write instead.
    """
    pair, fusion = task.task_inputs(name), task.fusion
    if len(pair) != 2:
        raise ValueError(
            f"tasks.{name}: a contrastive task compares two inputs, and this one has {len(pair)} "
            f"({', '.join(pair)}); set tasks.{name}.inputs to two of {', '.join(task.inputs)}"
        )
    if not separates_inputs(fusion) and all(target.type == "contrastive" for target in task.tasks.values()):
        given = fusion.name if fusion.dim is None else f"{fusion.name} with dim"
        raise ValueError(
            f"tasks.{name}: contrastive tasks alone need a fusion that keeps their inputs apart, and {given} mixes "
            "them; set fusion.name: late, or concat without dim"
        )
    dropout = fusion.modality_dropout if separates_inputs(fusion) else 0.0  # elsewhere the task sees around the fusion
    hidden = [entry for entry in pair if (dropout.get(entry) if isinstance(dropout, dict) else dropout)]
    if hidden:
        raise ValueError(
            f"tasks.{name}: a contrastive task needs both of its inputs, and fusion.modality_dropout hides "
            f"{' and '.join(hidden)}; leave it out for them"
        )
    if are_views(task, name):
        _check_views(task, name, pair)


def _check_views(task: "Task", name: str, pair: list[str]) -> None:
    both = " and ".join(pair)
    for other in task.tasks:
        if not are_views(task, other) and set(pair) <= {*task.task_inputs(other)}:
            raise ValueError(
                f"tasks.{other}: {both} are two views of one value, which {name} compares; give it one of them, "
                f"for example tasks.{other}.inputs: [{pair[0]}]"
            )
    changed = evaluation_views(task) & {*pair}
    if not any(task.inputs[entry].augment.enabled for entry in changed):
        raise ValueError(
            f"tasks.{name}: {both} are two views of one value, and nothing makes them differ; enable "
            f"{' or '.join(f'inputs.{entry}.augment' for entry in pair if entry in changed)}"
        )
