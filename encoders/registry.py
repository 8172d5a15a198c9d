"""Names of encoders: finding them, listing them, building them. Imports a builder only when it is called."""

from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from encoders import catalogue
from encoders.info import (
    BUILT_IN_MODALITIES,
    TRAIN_PACKAGES,
    EncoderInfo,
    Factory,
    Weights,
    missing_extra,
)
from encoders.plugins import BUILT_IN, Entry, Registry, built_in

if TYPE_CHECKING:
    from encoders.base import Encoder


def _without_family(name: str) -> list[str]:
    """The full name of a hub id (``google/vit-base-patch16-224``), which begins with no library's name."""
    libraries = {other.partition("/")[0] for other in ENCODERS.entries()}
    owner, _, model = name.partition("/")
    is_hub_id = owner and model and "/" not in model and not get_close_matches(owner, libraries, cutoff=0.75)
    return [f"transformers/{name}"] if is_hub_id else []


ENCODERS: Registry[Factory] = Registry(
    "encoder",
    "multimodal.encoders",
    lambda: (built_in(info.name, path, info) for info, path in catalogue.entries()),
    listing="`multimodal encoders` lists what there is; models of a hub are timm/NAME and transformers/NAME",
    meant=_without_family,
)


def _info(entry: Entry) -> EncoderInfo:
    """Of a plug-in that no decorator describes, only name and distribution are known."""
    return entry.info or EncoderInfo(entry.name, modality="unknown", source=entry.owner)


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
        return ENCODERS.register(name, full)(factory)

    return decorate


def list_encoders(modality: str | None = None) -> list[EncoderInfo]:
    """Encoders that can be created, by name; imports no plug-in (its modality is "unknown" until it is created).

    >>> [info.name for info in list_encoders("text")]
    ['compact/text', 'onnx/*', 'transformers/*', 'wordvectors/*']
    """
    wanted = (modality, "any") if modality in BUILT_IN_MODALITIES else (modality,)
    infos = map(_info, ENCODERS.entries().values())
    return sorted((info for info in infos if modality is None or info.modality in wanted), key=lambda info: info.name)


def find_encoder(name: str) -> EncoderInfo:
    """The entry that ``name`` belongs to, with the full name filled in.

    >>> find_encoder("torchvision/resnet18").embed_dim
    512

    Raises:
        LookupError: if there is none; the message suggests the nearest names.
    """
    return replace(_info(ENCODERS.find(name)), name=name)


def is_registered(name: str) -> bool:
    """True if the name is an encoder's own, not one that a family (``transformers/*``) takes.

    >>> is_registered("compact/audio"), is_registered("transformers/gpt2")
    (True, False)
    """
    return name in ENCODERS.entries()


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
    owner = ENCODERS.find(name).owner
    try:
        from encoders.weights.build import build

        factory = ENCODERS.load(name)
        info = find_encoder(name)  # of which the decorator of a plug-in may say more, once it is loaded
        if weights is ...:
            weights = "pretrained" if info.has_weights else None
        return build(info, factory, weights, kwargs)
    except ModuleNotFoundError as error:
        if owner != BUILT_IN and error.name not in TRAIN_PACKAGES:
            raise  # what a plug-in needs is not in our extra
        raise missing_extra(error) from error
