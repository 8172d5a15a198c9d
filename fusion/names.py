"""Containers of modules and parameters whose keys are the user's names of inputs and tasks."""

from collections.abc import ItemsView, Iterator, KeysView
from functools import cache
from typing import Any

from torch import nn


@cache
def _reserved() -> frozenset[str]:
    return frozenset([*dir(nn.ModuleDict()), *dir(nn.ParameterDict())])


def module_key(name: str) -> str:
    """The name, in upper case where torch's containers refuse it for being one of their own attributes ("type").

    The user's names are lower-case, so that none is lost.
    """
    return name.upper() if name in _reserved() else name


def _name(key: str) -> str:
    return key.lower() if module_key(key.lower()) == key else key


class NamedModules(nn.ModuleDict):
    """A ModuleDict that takes any name: an input may be called "values", a task "type"."""

    def __getitem__(self, name: str) -> nn.Module:
        return super().__getitem__(module_key(name))

    def __setitem__(self, name: str, module: nn.Module) -> None:
        super().__setitem__(module_key(name), module)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(module_key(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> KeysView[str]:
        """The user's names."""
        return {_name(key): None for key in self._modules}.keys()

    def items(self) -> ItemsView[str, nn.Module]:
        """The user's names, and the module of each."""
        return {name: self[name] for name in self.keys()}.items()


class NamedParameters(nn.ParameterDict):
    """A ParameterDict that takes any name."""

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(module_key(name))

    def __setitem__(self, name: str, parameter: Any) -> None:
        super().__setitem__(module_key(name), parameter)
