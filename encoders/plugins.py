"""Registries of named parts: built in, declared by installed distributions, registered by decorator. Torch-free."""

import difflib
import importlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from encoders.info import missing_extra

BUILT_IN = "multimodal-transfer"
Part = TypeVar("Part")
Decorated = TypeVar("Decorated")
"""A part, whose own class a decorator keeps."""


@dataclass(frozen=True)
class Entry:
    """A named part that is not loaded yet."""

    name: str
    """A name that ends in ``*`` stands for a family."""
    path: str
    """``module:name`` of the part."""
    owner: str
    """Distribution that brings it, or its path where a decorator registered it."""
    load: Callable[[], Any]
    info: Any = None
    """Facts that are known without loading it."""

    @property
    def distribution(self) -> str | None:
        """Distribution to install for it; None where a decorator registered it."""
        return None if self.owner == self.path else self.owner


def built_in(name: str, path: str, info: Any = None) -> Entry:
    """Entry of our own, whose module is imported when it is loaded."""
    module, attribute = path.split(":")
    return Entry(name, path, BUILT_IN, lambda: getattr(importlib.import_module(module), attribute), info)


class Registry(Generic[Part]):
    """Names of one kind of part, and the parts, each loaded when it is first asked for.

    Args:
        kind: word for a part in messages, e.g. "fusion".
        group: entry points of other distributions, e.g. "multimodal.fusions".
        own: gives the built-in entries.
        listing: end of the message about an unknown name; left out: all names.
        meant: gives names that an unknown one may stand for, however it is spelled.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        own: Callable[[], Iterable[Entry]],
        *,
        listing: str = "",
        meant: Callable[[str], list[str]] = lambda name: [],
    ) -> None:
        self.kind, self.group, self.listing = kind, group, listing
        self.registered: dict[str, Entry] = {}
        self._own, self._meant = own, meant

    @cached_property
    def built_in(self) -> dict[str, Entry]:
        """Our own entries by name."""
        return {entry.name: entry for entry in self._own()}

    def entries(self) -> dict[str, Entry]:
        """Every entry by name; imports no plug-in.

        Raises:
            ValueError: if a name is taken twice.
        """
        found = dict(self.built_in)
        for entry in (*self._declared(), *self.registered.values()):
            self._refuse_twice(found.get(entry.name), entry)
            found[entry.name] = entry
        return found

    def _declared(self) -> Iterator[Entry]:
        from importlib.metadata import entry_points  # reads packages' e-mail headers: a sixth of a cold start's imports

        for point in entry_points(group=self.group):
            owner = point.dist.name if point.dist is not None else point.value
            yield Entry(point.name, point.value, owner, point.load)

    def _refuse_twice(self, old: Entry | None, new: Entry) -> None:
        """A part may be declared by its distribution and decorated, too: the decorator then says more."""
        is_rerun = new.path.startswith("__main__:")  # a notebook's cell, or a session, may define the part again
        decorated_too = old is not None and new.distribution is None and old.path == new.path
        if old is not None and not (decorated_too and (old.distribution is not None or is_rerun)):
            raise ValueError(
                f"the {self.kind} name {new.name!r} is taken twice, by {old.owner} and by {new.owner}; "
                "rename one of them, for example with a /v2, or uninstall one"
            )

    def register(self, name: str, info: Any = None) -> Callable[[Decorated], Decorated]:
        """Decorator that registers a part under a name of your own.

        Raises:
            ValueError: if the name is taken.
        """

        def decorate(part: Decorated) -> Decorated:
            path = path_of(part)
            entry = Entry(name, path, path, lambda: part, info)
            self._refuse_twice(self.entries().get(name), entry)
            self.registered[name] = entry
            return part

        return decorate

    def find(self, name: str, *, distribution: str | None = None) -> Entry:
        """The entry that a name belongs to; a built-in one is found without a look at what is installed.

        Args:
            distribution: where the part came from when it was saved.

        Raises:
            LookupError: if there is none; the message suggests the nearest names, or what to install.
            ValueError: if a name is taken twice.
        """
        if name in self.built_in:
            return self.built_in[name]
        entries = self.entries()
        if name in entries:
            return entries[name]
        for pattern, entry in entries.items():
            if pattern.endswith("*") and name.startswith(pattern[:-1]) and len(name) >= len(pattern):
                return entry
        if distribution is not None:
            raise LookupError(f"the {self.kind} {name!r} is not installed; run: pip install {distribution}")
        near = self._meant(name) or difflib.get_close_matches(name, entries, n=3, cutoff=0.5)
        hint = (
            f"did you mean {' or '.join(near)}?"
            if near
            else self.listing or f"there are {', '.join(entries) or 'none'}"
        )
        raise LookupError(f"there is no {self.kind} {name!r}; {hint}")

    def name_of(self, part: Any) -> str:
        """The name of a registered class or function.

        Raises:
            LookupError: if it has none.
        """
        if not hasattr(part, "__qualname__"):
            raise LookupError(
                f"{part!r} is an object, and a config holds names; give its class, and its arguments as options"
            )
        for entry in self.entries().values():
            if entry.path == path_of(part):
                return entry.name
        raise LookupError(
            f"{path_of(part)} is not registered, and a config holds names; decorate it with "
            f"register_{self.kind.replace(' ', '_')}, under a name of your own such as mine/{part.__name__.lower()}"
        )

    def load(self, name: str, *, distribution: str | None = None, allowed: Collection[str] | None = None) -> Part:
        """The part itself.

        Args:
            distribution: where the part came from when it was saved.
            allowed: names of other distributions' parts that may be loaded; None allows every installed one.

        Raises:
            LookupError: if there is none, or it is not allowed.
            ImportError: if it cannot be imported; names the distribution, or the command that installs a package.
        """
        if name not in self.built_in and allowed is not None:
            self._check_allowed(name, distribution, allowed)
        entry = self.find(name, distribution=distribution)
        try:
            part: Part = entry.load()
        except (ImportError, AttributeError) as error:
            if entry.owner == BUILT_IN and isinstance(error, ModuleNotFoundError):
                raise missing_extra(error) from error
            raise ImportError(
                f"the {self.kind} {name!r} of {entry.owner} cannot be loaded ({error}); install what "
                f"{entry.owner} needs, or uninstall it"
            ) from error
        return part

    def _check_allowed(self, name: str, distribution: str | None, allowed: Collection[str]) -> None:
        """Refuses a part of a bundle that is not allowed, or that only a decorator registers and none has."""
        to_load = (
            "import the module that registers it before the bundle is loaded; a command finds it only as an entry "
            f"point {self.group!r} of an installed distribution (docs/plugins.md)"
        )
        if name not in allowed:
            in_python = "which was registered in Python and belongs to no distribution, and"
            origin = in_python if distribution is None else f"from the distribution {distribution!r}, which"
            way = f", and {to_load}" if distribution is None else ""
            raise LookupError(
                f"this bundle wants the {self.kind} {name!r} {origin} runs that package's code; if you trust it, allow "
                f"it with --allow-plugin {name} (in Python: allow_plugins=({name!r},)){way}"
            )
        try:
            self.find(name)
        except LookupError as error:
            if distribution is None:
                raise LookupError(f"the {self.kind} {name!r} is not registered; {to_load}") from error


def path_of(part: Any) -> str:
    """``module:name`` of a class or function.

    >>> path_of(Registry)
    'encoders.plugins:Registry'
    """
    return f"{part.__module__}:{part.__qualname__}"
