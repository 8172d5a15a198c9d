"""Task types by name: built in, of installed distributions, or registered by decorator. Never imports torch."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from encoders.plugins import Entry, Registry, built_in

if TYPE_CHECKING:
    from multimodal.task_types.base import TaskType
    from multimodal.task_types.decoding import Decoding

GROUP = "multimodal.task_types"


def _own() -> Iterable[Entry]:
    names = ("classification", "multilabel", "regression", "contrastive", "embedding")
    return [built_in(name, f"multimodal.task_types.{name}:{name.capitalize()}") for name in names]


TASK_TYPES: "Registry[type[TaskType]]" = Registry("task type", GROUP, _own)


def register_task_type(name: str) -> "Callable[[type[TaskType]], type[TaskType]]":
    """Decorator that registers a ``TaskType`` under a name of your own, such as "mine/tags".

    Raises:
        ValueError: if the name is taken.
    """

    def decorate(part: "type[TaskType]") -> "type[TaskType]":
        part.name = name
        return TASK_TYPES.register(name)(part)

    return decorate


def task_type(name: str, *, distribution: str | None = None, allowed: Collection[str] | None = None) -> "TaskType":
    """A task type by its name; arguments and errors as of ``Registry.load``.

    >>> task_type("regression").main_metric
    'r2'
    """
    part = TASK_TYPES.load(name, distribution=distribution, allowed=allowed)
    part.name = name
    return part()


def task_config(name: str, decoding: "Decoding") -> dict[str, Any]:
    """JSON of a task's type and decoding, which ``task_decoding`` takes."""
    content = {"type": name, "decoding": decoding.to_config()}
    if name in TASK_TYPES.built_in:
        return content
    return content | {"distribution": TASK_TYPES.find(name).distribution}


def task_decoding(content: Mapping[str, Any], *, allowed: Collection[str] | None = None) -> "Decoding":
    """Rebuilds a decoding from what ``task_config`` gave.

    Args:
        allowed: task types of other distributions that may be loaded; None allows every installed one.

    Raises:
        LookupError: if the type is not allowed or not installed.
        KeyError, TypeError, ValueError: if the content is not what ``task_config`` gives.
    """
    found = task_type(content["type"], distribution=content.get("distribution"), allowed=allowed)
    return found.decoding.from_config(content["decoding"])


def gives_vectors(name: str) -> bool:
    """True where tasks of a type predict embeddings; False for a plug-in that is not loaded yet, which stays so."""
    known = name in TASK_TYPES.built_in or name in TASK_TYPES.registered
    return known and task_type(name).decoding.is_vector
