"""Rules of what is computed from frozen encoders: heads in closed form, maps of features. Never imports torch."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from multimodal.plugins import strategy_info

if TYPE_CHECKING:
    from multimodal.config import Job

COMPUTED_HEADS = ("softmax", "svm", "class_mean", "knn")
"""Heads that are computed in closed form."""
TRAINED = "linear"
"""The head that the trainer trains."""


def computed_heads(job: "Job") -> dict[str, str]:
    """Task -> its head, of the tasks whose heads are computed."""
    return {name: task.head for name, task in job.tasks.items() if task.head in COMPUTED_HEADS}


def closed_form_inputs(job: "Job") -> list[str]:
    """Inputs of the tasks whose heads are computed, in config order."""
    read = {entry for name in computed_heads(job) for entry in job.task_inputs(name)}
    return [entry for entry in job.inputs if entry in read]


def mapped_inputs(job: "Job") -> list[str]:
    """Inputs whose tokens the model maps, in config order; those that share an encoder share its map."""
    narrows = narrows_source(job)
    return [name for name in job.inputs if narrows or job.owner(name).map is not None]


def narrows_source(job: "Job") -> bool:
    """True where the map of source records also leaves target records fewer features."""
    return job.transfer.source is not None and job.transfer.source.map == "subspace_alignment"


def is_frozen(job: "Job", name: str) -> bool:
    """True where nothing trains an input's encoder."""
    return strategy_info(job.transfer.strategy).trains == "heads" or job.owner(name).frozen


def closed_form_problems(job: "Job") -> Iterator[str]:
    """Heads that cannot be computed, and settings without effect on them."""
    fusion = job.fusion
    for name in computed_heads(job):
        place, instead = f"tasks.{name}.head is {job.tasks[name].head}", f"set tasks.{name}.head: {TRAINED}"
        inputs = job.task_inputs(name)
        if fusion.name != "concat" or fusion.dim is not None:
            given = fusion.name if fusion.dim is None else f"{fusion.name} with dim"
            yield (
                f"{place}, which needs a fusion with nothing to train, and {given} trains; set fusion.name: concat "
                f"and leave fusion.dim out, or {instead}"
            )
        if any(not is_frozen(job, entry) for entry in inputs):
            yield f"{place}, which needs frozen encoders, and {_freeze(job, inputs)}, or {instead[4:]}"
        layered = [entry for entry in inputs if job.owner(entry).new_layers]
        if layered:
            yield (
                f"{place}, which is computed from the tokens of frozen encoders, and inputs.{layered[0]} has "
                f"new_layers over them, which train; leave new_layers out, or {instead}"
            )
        for key in ("dropout", "modality_dropout", "unimodal_weight"):
            if getattr(fusion, key):
                yield f"{place}, on which fusion.{key} has no effect; leave it out, or train the head"
        for key in ("source", "adapt"):
            if getattr(job.transfer, key) is not None:
                yield (
                    f"{place}, which is computed from data.train alone, so that transfer.{key} has no effect; leave "
                    f"it out, or {instead}"
                )


def map_problems(job: "Job") -> Iterator[str]:
    """Maps of tokens that training changes, or that something else needs unchanged."""
    own = [name for name, entry in job.inputs.items() if entry.map is not None]
    for name in own:
        yield from _trained_below(job, f"inputs.{name}.map", [name])
    if job.transfer.source is not None and job.transfer.source.map != "none":
        yield from _source_map_problems(job, f"transfer.source.map is {job.transfer.source.map}", own)
    for name, task in job.tasks.items():
        compared = job.zero_shot_input(name) if task.head == "zero_shot" else None
        if compared in mapped_inputs(job):
            yield (
                f"tasks.{name}.head is zero_shot, which compares the tokens of inputs.{compared} as its encoder gives "
                f"them, and a map changes these; leave the map out, or set tasks.{name}.head: linear"
            )


def _source_map_problems(job: "Job", place: str, own: list[str]) -> Iterator[str]:
    yield from _trained_below(job, place, list(job.inputs))
    if job.fusion.name == "attention":
        yield (
            f"{place}, which is fitted to mean tokens, and fusion.name attention looks at each token; set fusion.name: "
            "concat, gated or late"
        )
    layered = [name for name, entry in job.inputs.items() if entry.new_layers]
    if layered:
        yield (
            f"{place}, which is fitted to mean tokens, and new_layers see each token; leave inputs.{layered[0]}."
            "new_layers out"
        )
    if own and narrows_source(job):
        yield f"{place}, which leaves the first components already; leave inputs.{own[0]}.map out, or take coral"


def _trained_below(job: "Job", place: str, names: list[str]) -> Iterator[str]:
    if any(not is_frozen(job, name) for name in names):
        yield f"{place}: it is fitted before training, to fixed tokens, and {_freeze(job, names)}, or leave the map out"


def _freeze(job: "Job", names: list[str]) -> str:
    trained = [name for name in names if not is_frozen(job, name)]
    owners = [job.encoder_input(name) for name in trained]
    return (
        f"transfer.strategy {job.transfer.strategy} may train {' and '.join(trained)}; set transfer.strategy: "
        f"linear_probe or {' and '.join(f'inputs.{owner}.frozen: true' for owner in owners)}"
    )
