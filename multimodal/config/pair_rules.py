"""Rules of contrastive tasks: the two inputs that each compares. Never imports torch."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multimodal.config import Fusion, Job


def separates_inputs(fusion: "Fusion") -> bool:
    """True where the fused vector is the inputs side by side."""
    return fusion.name == "late" or (fusion.name == "concat" and fusion.dim is None)


def are_views(job: "Job", name: str) -> bool:
    """True where a task compares two views of one value: inputs that read one column through one encoder."""
    if job.tasks[name].kind.has_column:
        return False
    inputs = job.task_inputs(name)
    return len({(job.encoder_input(entry), job.input_column(entry)) for entry in inputs}) == 1


def evaluation_views(job: "Job") -> set[str]:
    """Inputs that are augmented in evaluation, too, since two views of one value would else be equal.

    Those that another task reads are not.
    """
    views = {entry for name in job.tasks if are_views(job, name) for entry in job.task_inputs(name)}
    return views.difference(*(job.task_inputs(name) for name in job.tasks if not are_views(job, name)))


def contrastive_problems(job: "Job") -> Iterator[str]:
    """Inputs and fusions that a contrastive task cannot learn from."""
    fusion = job.fusion
    for name, task in job.tasks.items():
        if task.kind.has_column:
            continue
        pair = job.task_inputs(name)
        if len(pair) != 2:
            yield (
                f"tasks.{name}: a {task.type} task compares two inputs, and this one has {len(pair)} "
                f"({', '.join(pair)}); set tasks.{name}.inputs to two of {', '.join(job.inputs)}"
            )
        if not separates_inputs(fusion) and not any(other.kind.has_column for other in job.tasks.values()):
            given = fusion.name if fusion.dim is None else f"{fusion.name} with dim"
            yield (
                f"tasks.{name}: {task.type} tasks alone need a fusion that keeps their inputs apart, and {given} mixes "
                "them; set fusion.name: late, or concat without dim"
            )
        # elsewhere the task sees around the fusion
        dropout = fusion.modality_dropout if separates_inputs(fusion) else 0.0
        hidden = [entry for entry in pair if (dropout.get(entry) if isinstance(dropout, dict) else dropout)]
        if hidden:
            yield (
                f"tasks.{name}: a {task.type} task needs both of its inputs, and fusion.modality_dropout hides "
                f"{' and '.join(hidden)}; leave it out for them"
            )
        if are_views(job, name):
            yield from _view_problems(job, name, pair)


def _view_problems(job: "Job", name: str, pair: list[str]) -> Iterator[str]:
    both = " and ".join(pair)
    for other in job.tasks:
        if not are_views(job, other) and set(pair) <= {*job.task_inputs(other)}:
            yield (
                f"tasks.{other}: {both} are two views of one value, which {name} compares; give it one of them, "
                f"for example tasks.{other}.inputs: [{pair[0]}]"
            )
    changed = evaluation_views(job) & {*pair}
    if not any(job.inputs[entry].augment.enabled for entry in changed):
        yield (
            f"tasks.{name}: {both} are two views of one value, and nothing makes them differ; enable "
            f"{' or '.join(f'inputs.{entry}.augment' for entry in pair if entry in changed)}"
        )
