"""A plan of training as data: phases of parameter groups, by name. The trainer carries it out."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from multimodal.model import MultimodalModel


@dataclass(frozen=True)
class OptimizerSpec:
    """Optimizer of a phase."""

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    """Peak; each group multiplies it by its ``lr_scale``."""
    weight_decay: float = 0.01
    momentum: float = 0.9
    """SGD only."""
    warmup: float = 0.1
    """Share of the phase's steps until the peak; a cosine to zero follows."""


@dataclass(frozen=True)
class ParamGroup:
    """Parameters with one learning rate and weight decay, by name, since FSDP replaces the objects."""

    name: str
    params: tuple[str, ...]
    lr_scale: float = 1.0
    weight_decay: float | None = None
    """None: the optimizer's."""


@dataclass(frozen=True)
class Phase:
    """A stretch of training; every parameter that no group names is frozen."""

    name: str
    epochs: int
    groups: tuple[ParamGroup, ...]
    optimizer: OptimizerSpec | None = None
    """None: the trainer's."""
    patience: int | None = None
    """Epochs without a better metric until the phase ends; None: the trainer's."""


class TransferStrategy(ABC):
    """Plan of what trains when; holds no training code.

    Built as ``Strategy(policy, **options)``: an ``EncoderPolicy``, and the options of the job.
    """

    def prepare(self, model: MultimodalModel) -> None:  # noqa: B027  (nothing to prepare is the common case)
        """Changes the model once, before anything is wrapped or sharded."""

    def finish(self, model: MultimodalModel) -> None:  # noqa: B027
        """Changes the model back, once, after training."""

    @abstractmethod
    def plan(self, model: MultimodalModel, epochs: int) -> list[Phase]:
        """Phases whose epochs sum to at most ``epochs``; valid for ``epochs = 1``."""


@dataclass(frozen=True)
class EncoderPolicy:
    """Fine-tuning of each encoder, by input name."""

    scales: Mapping[str, float] = field(default_factory=dict)
    """Factor on the learning rate; 1 where it is not named."""
    frozen: frozenset[str] = frozenset()
    """Never trained."""
    fresh: frozenset[str] = frozenset()
    """Random weights, which a probe need not protect."""
    unfreeze_from: int | None = None
    """First depth group that trains; the groups before it stay frozen. Below 0 it counts from the output: -2 trains
    the last two groups, or all where there are fewer. None: the strategy's own, for most 0."""


def head_groups(model: MultimodalModel) -> tuple[ParamGroup, ...]:
    """New layers, fusion, heads, auxiliary ones too, and objectives: what is new on the target task."""
    names = parameter_names(model)
    modules = (model.layers, model.fusion, model.heads, model.unimodal, model.objectives)
    new = [names[id(parameter)] for module in modules for parameter in module.parameters()]
    return (ParamGroup("heads", tuple(new)),) if new else ()


def encoder_groups(model: MultimodalModel, policy: EncoderPolicy, *, last: int | None = None) -> tuple[ParamGroup, ...]:
    """One group per encoder that trains, from its depth group ``policy.unfreeze_from`` on; a fresh one whole.

    Args:
        last: only so many depth groups, counted from the output, of the encoders that are not fresh; None: all.

    Raises:
        ValueError: if an encoder that is not frozen has no depth group left to train.
    """
    groups = []
    for name, depth in trained_depth(model, policy).items():
        chosen = depth if last is None or name in policy.fresh else depth[max(0, len(depth) - last) :]
        params = tuple(name for group in chosen for name in group)
        if params:
            groups.append(ParamGroup(f"encoder.{name}", params, policy.scales.get(name, 1.0)))
    return tuple(groups)


def trained_depth(model: MultimodalModel, policy: EncoderPolicy) -> dict[str, list[tuple[str, ...]]]:
    """Input -> names of the parameters that fine-tuning changes, by depth, the input side first.

    Raises:
        ValueError: if an encoder that is not frozen has no depth group left to train.
    """
    names = parameter_names(model)
    found = {}
    for name in model.encoders:
        depth = [] if name in policy.frozen else model.encoder(name).depth_groups()
        first = 0 if name in policy.fresh else policy.unfreeze_from or 0
        first = first if first >= 0 else max(0, len(depth) + first)
        if depth and first >= len(depth):
            raise ValueError(
                f"transfer.unfreeze_from is {policy.unfreeze_from}, but the encoder of {name!r} has only "
                f"{len(depth)} depth groups (0 to {len(depth) - 1}); to keep it frozen set inputs.{name}.frozen"
            )
        if depth:  # an encoder may have nothing to learn
            found[name] = [tuple(names[id(parameter)] for parameter in group) for group in depth[first:]]
    return found


def parameter_names(model: nn.Module) -> dict[int, str]:
    """id of each parameter -> its name."""
    return {id(parameter): name for name, parameter in model.named_parameters()}


def trained_names(phases: Iterable[Phase]) -> set[str]:
    """Names of the parameters that some phase trains."""
    return {name for phase in phases for group in phase.groups for name in group.params}


def check_plan(model: nn.Module, phases: Iterable[Phase], epochs: int) -> None:
    """Rejects a plan that the trainer cannot execute.

    Raises:
        ValueError: if a name is unknown or listed twice in a phase, or the epochs do not fit.
    """
    known = {name for name, _ in model.named_parameters()}
    phases = list(phases)
    total = sum(phase.epochs for phase in phases)
    if not phases or min(phase.epochs for phase in phases) < 1 or total > epochs:
        raise ValueError(f"the strategy planned {total} epochs in {len(phases)} phases; {epochs} are allowed")
    for phase in phases:
        listed = [name for group in phase.groups for name in group.params]
        unknown = sorted(set(listed) - known)
        twice = sorted({name for name in listed if listed.count(name) > 1}) if len(set(listed)) < len(listed) else []
        if not listed or unknown or twice:
            raise ValueError(
                f"phase {phase.name!r} trains {len(listed)} parameters, of which the model has no {unknown} and the "
                f"phase lists twice {twice}; every name must be one of model.named_parameters(), once"
            )
