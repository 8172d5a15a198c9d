"""Names of encoders: finding them, listing them, building them. Imports a builder only when it is called."""

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from encoders.info import (
    BUILT_IN,
    BUILT_IN_MODALITIES,
    EXTRAS,
    TRAIN_PACKAGES,
    EncoderInfo,
    Factory,
    Weights,
    missing_extra,
)

if TYPE_CHECKING:
    from encoders.base import Encoder

PLUGIN_GROUP = "multimodal.encoders"


@dataclass(frozen=True)
class _Entry:
    info: EncoderInfo
    load: Callable[[], Factory]
    owner: str
    """Distribution, or ``module:name`` of what is decorated."""
    declared: str | None = None
    """``module:name`` that a distribution's entry point stands for."""


_registered: dict[str, _Entry] = {}


def _builder(path: str) -> Callable[[], Factory]:
    module, function = path.split(":")
    return lambda: getattr(importlib.import_module(module), function)


def _builtin_entries() -> list[_Entry]:
    from encoders import catalogue

    return [_Entry(info, _builder(path), BUILT_IN) for info, path in catalogue.entries()]


def _plugin_entries() -> list[_Entry]:
    entries = []
    from importlib.metadata import entry_points  # reads packages' e-mail headers: a sixth of a cold start's imports

    for point in entry_points(group=PLUGIN_GROUP):
        owner = point.dist.name if point.dist is not None else point.value
        info = EncoderInfo(point.name, modality="unknown", source=owner)
        entries.append(_Entry(info, point.load, owner, declared=point.value))
    return entries


def _entries() -> dict[str, _Entry]:
    """Every entry by name: built in, declared by installed distributions, registered by decorator."""
    entries: dict[str, _Entry] = {}
    for entry in [*_builtin_entries(), *_plugin_entries(), *_registered.values()]:
        _refuse_twice(entries.get(entry.info.name), entry)
        entries[entry.info.name] = entry
    return entries


def _refuse_twice(old: _Entry | None, new: _Entry) -> None:
    """A factory may be declared by its distribution and decorated, too: the decorator then says more."""
    if old is not None and old.declared != new.owner:
        raise ValueError(
            f"the encoder name {new.info.name!r} is taken twice, by {old.owner} and by {new.owner}; "
            "rename one of them, for example with a /v2"
        )


def register_encoder(name: str, *, modality: str, **info: Any) -> Callable[[Factory], Factory]:
    """Registers an Encoder class, or a factory ``f(*, weights, **options)``, under a name of your own.

    A factory without ``weights`` gets a file of weights loaded into what it returns. One with ``name`` is told the
    full name, which a family (``"mine/*"``) needs.

    Args:
        modality: "image", "text", "audio" or another word.
        **info: further fields of EncoderInfo, e.g. ``embed_dim=512, licence="MIT"``.

    Raises:
        ValueError: if the name is taken.
    """

    def decorate(factory: Factory) -> Factory:
        full = replace(EncoderInfo(name, modality, source=factory.__module__), **info)
        entry = _Entry(full, lambda: factory, owner=f"{factory.__module__}:{factory.__qualname__}")
        _refuse_twice(_entries().get(name), entry)
        _registered[name] = entry
        return factory

    return decorate


def list_encoders(modality: str | None = None) -> list[EncoderInfo]:
    """What can be created, by name; imports no plug-in (its modality is "unknown" until it is created).

    >>> [info.name for info in list_encoders("text")]
    ['compact/text', 'transformers/*', 'wordvectors/*']
    """
    wanted = (modality, "any") if modality in BUILT_IN_MODALITIES else (modality,)
    infos = (entry.info for entry in _entries().values())
    return sorted((info for info in infos if modality is None or info.modality in wanted), key=lambda info: info.name)


def find_encoder(name: str) -> EncoderInfo:
    """The entry that ``name`` belongs to, with the full name filled in.

    >>> find_encoder("torchvision/resnet18").embed_dim
    512

    Raises:
        LookupError: if there is none; the message suggests the nearest names.
    """
    return replace(_find(name).info, name=name)


def is_registered(name: str) -> bool:
    """Whether the name is an encoder's own, rather than one that a family (``transformers/*``) takes.

    >>> is_registered("compact/audio"), is_registered("transformers/gpt2")
    (True, False)
    """
    return name in _entries()


def _find(name: str) -> _Entry:
    entries = _entries()
    if name in entries:
        return entries[name]
    for pattern, entry in entries.items():
        if pattern.endswith("*") and name.startswith(pattern[:-1]) and len(name) >= len(pattern):
            return entry
    near = difflib.get_close_matches(name, entries, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`multimodal encoders` lists what there is"
    raise LookupError(f"there is no encoder {name!r}; {hint}")


def create_encoder(name: str, *, weights: Weights | EllipsisType = ..., **kwargs: Any) -> "Encoder":
    """Builds an encoder by name.

    Args:
        weights: "pretrained"; None for random weights; a file (safetensors or a state_dict), a folder, a hub
            id, or the folder of an earlier training run. Left out: the registry's own weights if the entry
            has any, else random.
        **kwargs: passed to the builder.

    Raises:
        LookupError: if there is no such name.
        ValueError: if ``weights="pretrained"`` is asked of an entry that has none.
        ModuleNotFoundError: if a package is missing; names the command that installs it.
    """
    entry = _find(name)
    try:
        from encoders.weights.build import build

        factory = _load(entry)
        info = replace(_registered.get(entry.info.name, entry).info, name=name)
        if weights is ...:
            weights = "pretrained" if info.has_weights else None
        return build(info, factory, weights, kwargs)
    except ModuleNotFoundError as error:
        if entry.owner != BUILT_IN and error.name not in TRAIN_PACKAGES:
            raise  # what a plug-in lacks is not in our extra
        raise missing_extra(error, EXTRAS.get(str(error.name), "train")) from error


def _load(entry: _Entry) -> Factory:
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        if entry.owner == BUILT_IN:
            raise
        raise ImportError(
            f"the encoder {entry.info.name!r} of {entry.owner} cannot be loaded ({error}); install what "
            f"{entry.owner} needs, or uninstall it"
        ) from error
