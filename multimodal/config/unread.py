"""Settings that another one leaves without effect: errors, or warnings where the strategy decides.

A setting at its default is never reported, since a resolved config has every setting.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel

from encoders.plugins import Registry
from fusion.registry import FUSIONS
from multimodal.config.frozen_rules import COMPUTED_HEADS
from multimodal.plugins import STRATEGIES, strategy_info
from multimodal.task_types import TASK_TYPES, task_type

if TYPE_CHECKING:
    from multimodal.config.inputs import Input
    from multimodal.config.job import Job


class Belongs(NamedTuple):
    """Settings that are read only for some values of another setting of their section."""

    keys: tuple[str, ...]
    to: str
    values: tuple[str, ...]
    plugins: Registry[Any] | None = None
    """The registry whose parts of other distributions read them, too."""

    def are_read(self, value: Any) -> bool:
        """True where they are, for a value of the other setting."""
        is_plugin = self.plugins is not None and value not in ("auto", *self.plugins.built_in)
        return value in self.values or is_plugin

    def __str__(self) -> str:
        """The values for which they are read."""
        own = () if self.plugins is None else (f"a registered {self.plugins.kind} of your own",)
        return " or ".join((*self.values, *own))


def _training(*parts: str) -> tuple[str, ...]:
    """Built-in strategies that train these parts; auto chooses among those that train encoders."""
    named = (name for name in STRATEGIES.built_in if strategy_info(name).trains in parts)
    return ("auto", *named) if "encoders" in parts else tuple(named)


def _own_settings() -> "Iterator[Belongs]":
    """Settings that single strategies read."""
    infos = {name: strategy_info(name) for name in STRATEGIES.built_in}
    for key in dict.fromkeys(key for info in infos.values() for key in info.settings):
        names = tuple(name for name, info in infos.items() if key in info.settings)
        yield Belongs((key,), "strategy", ("auto", *names) if key == "probe_epochs" else names)


BELONGS = {
    "Adapt": (
        Belongs(("threshold",), "method", ("pseudo_labels",)),
        Belongs(("hidden_dim",), "method", ("dann", "cdan")),
    ),
    "FeatureMap": (Belongs(("components", "whiten"), "method", ("pca",)),),
    "Fusion": (
        Belongs(("num_queries", "num_heads"), "name", ("attention",)),
        Belongs(("dim", "modality_dropout", "unimodal_weight"), "name", ("concat", "attention", "gated"), FUSIONS),
        Belongs(("options",), "name", (), FUSIONS),
    ),
    "Source": (Belongs(("components",), "map", ("subspace_alignment",)),),
    "Task": (
        Belongs(("margin",), "loss", ("arcface",)),
        Belongs(("costs",), "threshold", ("auto",)),
        Belongs(("tower",), "head", ("linear",)),
        Belongs(("label_smoothing",), "head", ("linear", "zero_shot")),
        Belongs(("zero_shot",), "head", ("zero_shot",)),
    ),
    "Train": (Belongs(("momentum",), "optimizer", ("sgd",)),),
    "Transfer": (
        Belongs(("unfreeze_from", "l2_sp"), "strategy", _training("encoders"), STRATEGIES),
        Belongs(("encoder_scale", "distill"), "strategy", _training("encoders", "parts"), STRATEGIES),
        Belongs(
            *(("source", "adapt", "average", "views"), "strategy", _training("encoders", "parts", "heads")), STRATEGIES
        ),
        Belongs(("options",), "strategy", (), STRATEGIES),
        *_own_settings(),
        Belongs(("wise_ft_shares",), "average", ("wise_ft",)),
        Belongs(("soup_size",), "average", ("soup",)),
        Belongs(("ema_decay",), "average", ("ema",)),
    ),
}
"""Section -> its dependent settings; those of a task also depend on its type, see ``_of_types``."""


def _of_types(section: BaseModel) -> Iterator[Belongs]:
    """Settings of a task that only some types read."""
    types = [task_type(name) for name in dict.fromkeys([*TASK_TYPES.built_in, getattr(section, "type", "")]) if name]
    owners: dict[tuple[str, ...], list[str]] = {}
    for key in type(section).model_fields:
        values = tuple(kind.name for kind in types if key in kind.settings)
        owners.setdefault(values, []).append(key)
    yield from (Belongs(tuple(keys), "type", values) for values, keys in owners.items() if values)


def changed(section: BaseModel) -> set[str]:
    """Names of the settings that are not at their defaults."""
    fields = type(section).model_fields
    return {key for key in fields if getattr(section, key) != fields[key].get_default(call_default_factory=True)}


def unread(section: BaseModel) -> Iterator[str]:
    """Problems of a section by itself, by ``BELONGS`` and, of a task, by its type."""
    given, own = changed(section), BELONGS.get(type(section).__name__, ())
    for belongs in (*(_of_types(section) if own is BELONGS["Task"] else ()), *own):
        to, value = belongs.to, getattr(section, belongs.to)
        lost = [key for key in belongs.keys if key in given]
        if lost and not belongs.are_read(value):
            verb, them = ("belongs", "it") if len(lost) == 1 else ("belong", "them")
            where = f"{to}: {belongs}, and {to} is {value}"
            yield f"{' and '.join(lost)} {verb} to {where}; leave {them} out"


class Effect(NamedTuple):
    """A setting, with * for the name of an input or a task, and where it has no effect."""

    place: str
    is_idle: Callable[["Job", Any], bool]
    """Takes the job and the name, if any."""
    reason: str


def _frozen(job: "Job", name: str) -> bool:
    return job.owner(name).frozen


def _is_augmented(job: "Job", name: str) -> bool:
    return job.inputs[name].augment.enabled and job.transfer.views == 1


def _has_linear_head(job: "Job") -> bool:
    return any(task.head == "linear" and task.kind.has_column for task in job.tasks.values())


def _pretrained(job: "Job") -> "list[Input]":
    entries = [entry for entry in job.inputs.values() if entry.share is None]
    return [entry for entry in entries if not entry.frozen and entry.weights is not None]


def _all_scaled(job: "Job") -> bool:
    return all(entry.learning_rate_scale is not None for entry in _pretrained(job))


def _all_computed(job: "Job") -> bool:
    return all(task.head in COMPUTED_HEADS for task in job.tasks.values())


def _plans_nothing(job: "Job") -> bool:
    return strategy_info(job.transfer.strategy).trains == "nothing"


def _trains_nothing(job: "Job") -> bool:
    return _plans_nothing(job) or _all_computed(job)


def _keeps_encoders(job: "Job") -> bool:
    return strategy_info(job.transfer.strategy).trains in ("heads", "nothing")


LOOP = (
    *("epochs", "accumulate", "learning_rate", "optimizer", "momentum", "weight_decay", "warmup", "clip_norm"),
    *("patience", "task_weighting", "checkpoint_steps"),
)
NO_WEIGHTS = "every encoder is frozen or random"

REFUSED = (
    Effect("inputs.*.augment", lambda j, n: _frozen(j, n) and _is_augmented(j, n), "its encoder is frozen"),
    Effect("inputs.*.learning_rate_scale", lambda j, n: _frozen(j, n), "its encoder is frozen"),
    Effect("fusion.modality_dropout", lambda j, _: len(j.inputs) == 1, "a record never loses its only input"),
    Effect("fusion.unimodal_weight", lambda j, _: not _has_linear_head(j), "no task has a head to have some beside"),
    Effect("tasks.*.weight", lambda j, n: j.tasks[n].head in COMPUTED_HEADS, "its head is computed at once"),
    Effect(
        "train.task_weighting", lambda j, _: len(j.tasks) < 2, "it weights tasks against each other, and there is one"
    ),
    Effect("transfer.average", lambda j, _: _all_computed(j), "all heads are computed at once"),
    Effect("transfer.unfreeze_from", lambda j, _: not _pretrained(j), NO_WEIGHTS),
    Effect("transfer.layer_decay", lambda j, _: not _pretrained(j), NO_WEIGHTS),
    Effect("transfer.lora", lambda j, _: not _pretrained(j), NO_WEIGHTS),
    Effect("transfer.encoder_scale", lambda j, _: _all_scaled(j), "every encoder is frozen, is random or has its own"),
)
WARNED = (
    Effect("inputs.*.augment", lambda j, n: _keeps_encoders(j) and _is_augmented(j, n), "no encoder is trained"),
    Effect("inputs.*.learning_rate_scale", lambda j, _: _keeps_encoders(j), "no encoder is trained"),
    Effect("inputs.*.new_layers", lambda j, _: _plans_nothing(j), "nothing is trained"),
    Effect("tasks.*.weight", lambda j, _: _plans_nothing(j), "nothing is trained"),
    Effect("tasks.*.imbalance", lambda j, _: _plans_nothing(j), "nothing is trained"),
    Effect("tasks.*.label_smoothing", lambda j, _: _plans_nothing(j), "nothing is trained"),
    Effect("tasks.*.zero_shot.pull", lambda j, _: _plans_nothing(j), "nothing is trained"),
    *(Effect(f"train.{key}", lambda j, _: _trains_nothing(j), "nothing is trained") for key in LOOP),
)
"""Warnings: an error would prevent comparing strategies and heads on one config."""


def idle(job: "Job", effects: Iterable[Effect] = REFUSED) -> Iterator[str]:
    """The changed settings of a job that have no effect, each with the reason."""
    for place, is_idle, reason in effects:
        for name, key, section in _sections(job, place):
            if key in changed(section) and is_idle(job, name):
                yield f"{place.replace('*', str(name))} has no effect: {reason}; leave it out"
    if effects is REFUSED:
        yield from _idle_targets(job)


def _idle_targets(job: "Job") -> Iterator[str]:
    for name in job.transfer.lora.targets:
        entry = job.inputs[name]
        if entry.share is not None:
            yield f"transfer.lora.targets.{name} has no effect: name {entry.share!r}, whose encoder it shares"
        elif entry.frozen:
            yield f"transfer.lora.targets.{name} has no effect: its encoder is frozen; leave it out"


def idle_warnings(job: "Job") -> list[str]:
    """Warnings of a training about its settings, once its strategy is known (not auto)."""
    lines = [f"transfer.{line}" for line in unread(job.transfer)] + list(idle(job, WARNED))
    epochs, probe = job.train.epochs, job.transfer.probe_epochs
    if probe is not None and probe >= epochs:
        lines.append(f"transfer.probe_epochs is {probe} of {epochs} epochs: the first phase takes {epochs - 1}")
    return lines


def _sections(job: "Job", place: str) -> Iterator[tuple[str | None, str, BaseModel]]:
    """Name, key and section of each setting that a place stands for."""
    first, *middle, key = place.split(".")
    if not middle:
        yield None, key, getattr(job, first)
        return
    for name, section in getattr(job, first).items():
        for part in middle[1:]:
            section = getattr(section, part)
        yield name, key, section
