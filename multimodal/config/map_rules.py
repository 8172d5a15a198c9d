"""What maps of features need of a job. Never imports torch."""

from typing import TYPE_CHECKING

from multimodal.config.head_rules import is_frozen

if TYPE_CHECKING:
    from multimodal.config import Job


def mapped_inputs(job: "Job") -> list[str]:
    """Inputs whose tokens a map of the model takes, in config order; those that share an encoder share its map."""
    narrows = narrows_source(job)
    return [name for name in job.inputs if narrows or job.inputs[_owner(job, name)].map is not None]


def narrows_source(job: "Job") -> bool:
    """Whether the map of source records also leaves target records fewer features."""
    return job.transfer.source is not None and job.transfer.source.map == "subspace_alignment"


def check_maps(job: "Job") -> None:
    """Refuses maps of tokens that do not stand still, or that something else needs as they are.

    Raises:
        ValueError: says what is wrong, and what to write instead.
    """
    own = [name for name, entry in job.inputs.items() if entry.map is not None]
    for name in own:
        _require_frozen(job, f"inputs.{name}.map", [name])
    if job.transfer.source is not None and job.transfer.source.map != "none":
        _check_source_map(job, own)
    for name, task in job.tasks.items():
        compared = job.zero_shot_input(name) if task.head == "zero_shot" else None
        if compared in mapped_inputs(job):
            raise ValueError(
                f"tasks.{name}.head is zero_shot, which compares the tokens of inputs.{compared} as its encoder gives "
                f"them, and a map changes these; leave the map out, or set tasks.{name}.head: linear"
            )


def _check_source_map(job: "Job", own: list[str]) -> None:
    assert job.transfer.source is not None
    place = f"transfer.source.map is {job.transfer.source.map}"
    _require_frozen(job, place, list(job.inputs))
    if job.fusion.name == "attention":
        raise ValueError(
            f"{place}, which is fitted to mean tokens, and fusion.name attention looks at each token; set fusion.name: "
            "concat, gated or late"
        )
    layered = [name for name, entry in job.inputs.items() if entry.new_layers]
    if layered:
        raise ValueError(
            f"{place}, which is fitted to mean tokens, and new_layers see each token; leave inputs.{layered[0]}."
            "new_layers out"
        )
    if own and narrows_source(job):
        raise ValueError(
            f"{place}, which leaves the first components already; leave inputs.{own[0]}.map out, or take coral"
        )


def _require_frozen(job: "Job", place: str, names: list[str]) -> None:
    trained = [name for name in names if not is_frozen(job, name)]
    if trained:
        raise ValueError(
            f"{place}: it is fitted before training, to tokens that stand still, and transfer.strategy "
            f"{job.transfer.strategy} may train {' and '.join(trained)}; set transfer.strategy: linear_probe or "
            f"{' and '.join(f'inputs.{_owner(job, name)}.frozen: true' for name in trained)}, or leave the map out"
        )


def _owner(job: "Job", name: str) -> str:
    share = job.inputs[name].share
    return name if share is None else share
