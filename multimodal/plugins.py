"""Registries of strategies and trackers, and the parts of other distributions in a job. Never imports torch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from encoders.plugins import BUILT_IN, Decorated, Entry, Registry, built_in
from encoders.preprocessing.registry import PREPROCESSORS
from encoders.registry import ENCODERS, find_encoder
from fusion.registry import FUSIONS
from multimodal.task_types.registry import TASK_TYPES

if TYPE_CHECKING:
    from multimodal.config import Job
    from multimodal.trainer.history import Tracker
    from multimodal.transfer.plan import TransferStrategy


@dataclass(frozen=True)
class StrategyInfo:
    """Facts of a strategy that the rules of a job use without loading it."""

    trains: Literal["nothing", "heads", "parts", "encoders"] = "encoders"
    """Nothing; heads and fusion; new parts of encoders, too; the weights of encoders themselves, too."""
    settings: tuple[str, ...] = ()
    """Settings of ``transfer`` that no other strategy reads."""


_BUILT_IN = {
    "finetune": ("strategies:Finetune", StrategyInfo()),
    "partial": ("strategies:Partial", StrategyInfo()),
    "probe_then_finetune": ("strategies:ProbeThenFinetune", StrategyInfo(settings=("probe_epochs",))),
    "two_phase": ("strategies:TwoPhase", StrategyInfo(settings=("probe_epochs", "two_phase"))),
    "gradual_unfreezing": ("strategies:GradualUnfreezing", StrategyInfo()),
    "layerwise_lr_decay": ("strategies:LayerwiseDecay", StrategyInfo(settings=("layer_decay",))),
    "norm_and_bias": ("strategies:NormAndBias", StrategyInfo()),
    "lora": ("lora:LowRankAdaptation", StrategyInfo("parts", ("lora",))),
    "linear_probe": ("strategies:LinearProbe", StrategyInfo("heads")),
    "none": ("strategies:TrainNothing", StrategyInfo("nothing")),
}


def _strategies() -> Iterable[Entry]:
    return [built_in(name, f"multimodal.transfer.{path}", info) for name, (path, info) in _BUILT_IN.items()]


STRATEGIES: "Registry[Callable[..., TransferStrategy]]" = Registry("strategy", "multimodal.strategies", _strategies)


def register_strategy(
    name: str, *, trains: Literal["nothing", "heads", "parts", "encoders"] = "encoders"
) -> Callable[[Decorated], Decorated]:
    """Registers a TransferStrategy class, or a factory ``f(policy, **options)``, under a name of your own.

    Args:
        trains: nothing; heads and fusion; new parts of encoders, too; the weights of encoders themselves, too.

    Raises:
        ValueError: if the name is taken.
    """
    return STRATEGIES.register(name, StrategyInfo(trains))


def strategy_info(name: str) -> StrategyInfo:
    """Facts of a strategy; one of an entry point counts as training encoders until it is loaded.

    >>> strategy_info("linear_probe").trains
    'heads'
    """
    entry = STRATEGIES.built_in.get(name) or STRATEGIES.registered.get(name)
    return StrategyInfo() if entry is None else entry.info


TRACKERS: "Registry[Callable[..., Tracker]]" = Registry("tracker", "multimodal.trackers", lambda: ())


def can_train(encoder: str) -> bool:
    """False for the name of an encoder without gradients, which stays frozen under any strategy."""
    try:
        return find_encoder(encoder).trains
    except LookupError:  # said where it is built
        return True


def register_tracker(name: str) -> Callable[[Decorated], Decorated]:
    """Registers a Tracker class, or a factory ``f(**options)``, under a name of your own.

    Raises:
        ValueError: if the name is taken.
    """
    return TRACKERS.register(name)


_REGISTRIES: dict[str, Registry[Any]] = {
    registry.kind: registry for registry in (ENCODERS, PREPROCESSORS, FUSIONS, STRATEGIES, TRACKERS, TASK_TYPES)
}


def plugins_of(job: "Job", encoders: Iterable[str], preprocessors: Iterable[str]) -> list[dict[str, str | None]]:
    """The parts of a job that are not built in: kind, name, distribution and path of each, JSON.

    Args:
        encoders: their names, of which the job may give folders.
        preprocessors: their kinds.
    """
    named: list[tuple[Registry[Any], str]] = [(ENCODERS, name) for name in dict.fromkeys(encoders) if name]
    named += [(PREPROCESSORS, kind) for kind in dict.fromkeys(preprocessors)]
    named += [(FUSIONS, job.fusion.name), (STRATEGIES, job.transfer.strategy)]
    named += [(TRACKERS, tracker.name) for tracker in job.train.trackers]
    named += [(TASK_TYPES, name) for name in dict.fromkeys(task.type for task in job.tasks.values())]
    found = [(registry.kind, name, registry.find(name)) for registry, name in named if name != "auto"]
    return [
        {"kind": kind, "name": name, "distribution": entry.distribution, "path": entry.path}
        for kind, name, entry in found
        if entry.owner != BUILT_IN
    ]


def require_plugins(plugins: Iterable[dict[str, str | None]]) -> None:
    """Refuses what ``plugins_of`` gave where a part is not installed.

    Raises:
        LookupError: says what to install, or to import.
    """
    for plugin in plugins:
        kind, name, distribution = str(plugin["kind"]), str(plugin["name"]), plugin["distribution"]
        try:
            _REGISTRIES[kind].find(name, distribution=distribution)
        except LookupError as error:
            if distribution is not None:
                raise
            line = f"the {kind} {name!r} is not registered; import its module first ({plugin['path']})"
            raise LookupError(line) from error
