"""YAML 1.2 with its core schema, read and written by PyYAML, whose own schema is that of version 1.1."""

import math
import re
from typing import Any, ClassVar

import yaml

from multimodal.config.problems import ConfigError

_TAG = "tag:yaml.org,2002:"
CORE_SCHEMA = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
    ("merge", r"<<", ["<"]),  # of YAML 1.1, but widely written
)
"""Plain scalars that are not text (https://yaml.org/spec/1.2.2/#1032-tag-resolution), by first character."""


class WrittenInt(int):
    """Whole number that keeps its spelling, for fields that take text: the label 010 stays 010."""

    text: str

    def __repr__(self) -> str:
        return self.text


class WrittenFloat(float):
    """Float that keeps its spelling: the label 1e5 stays 1e5."""

    text: str

    def __repr__(self) -> str:
        return self.text


class _Loader(yaml.SafeLoader):
    """Loader of the core schema, with unique text keys and finite numbers."""

    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        tag: yaml.SafeLoader.yaml_constructors[tag]
        for tag in (_TAG + "null", _TAG + "bool", _TAG + "str", _TAG + "seq", None)  # None: any other
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # before merge keys add others
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        places: dict[str, yaml.Mark] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{self.name}: the key at {_place(key.start_mark)} is no text; write a plain word")
            if key.value in places:
                raise ConfigError(
                    f"{self.name}: the key {key.value!r} is given twice, at {_place(places[key.value])} and at "
                    f"{_place(key.start_mark)}; keep one of them"
                )
            places[key.value] = key.start_mark
        return node

    def construct_text_mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}

    def construct_int(self, node: yaml.ScalarNode) -> int:
        base = {"0o": 8, "0x": 16}.get(node.value[:2], 10)
        return self._as_written(node, WrittenInt, lambda text: int(text, base))

    def construct_float(self, node: yaml.ScalarNode) -> float:
        return self._as_written(node, WrittenFloat, float)

    def _as_written(self, node: yaml.ScalarNode, written: Any, parse: Any) -> Any:
        try:
            value = parse(node.value)
            usable = math.isfinite(value)
        except (ValueError, OverflowError):  # .inf, .nan, and more digits than Python takes
            usable = False
        if not usable:
            raise ConfigError(
                f"{self.name}: {node.value[:40]!r} at {_place(node.start_mark)} is no finite number; give one, or put "
                "quotes around a text"
            )
        if str(value) == node.value:
            return value
        number = written(value)
        number.text = node.value
        return number


class _Dumper(yaml.SafeDumper):
    """Quotes texts that YAML 1.1 or 1.2 would read as something else."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        # PyYAML would write these line breaks as they are, and not read them so
        style = '"' if {*text} & {"\x85", "\u2028", "\u2029"} else None
        return self.represent_scalar(_TAG + "str", text, style=style)


_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in CORE_SCHEMA:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _kind, re.compile(rf"(?:{_pattern})\Z"), _first)
_Dumper.add_implicit_resolver(_TAG + "bool", re.compile(r"[yYnN]\Z"), list("yYnN"))  # of 1.1; PyYAML leaves them out
_Dumper.add_representer(str, _Dumper.represent_text)
_Loader.add_constructor(_TAG + "map", _Loader.construct_text_mapping)
_Loader.add_constructor(_TAG + "int", _Loader.construct_int)
_Loader.add_constructor(_TAG + "float", _Loader.construct_float)


def read_yaml(text: str, source: str) -> Any:
    """Content of one YAML document.

    Anchors, aliases and merge keys (``<<``) are as in YAML 1.1.

    Args:
        source: begins the error messages.

    Raises:
        ConfigError: for a duplicate key, or a number that is not finite.
        yaml.YAMLError: if it is not YAML, or has tags beyond the core schema.

    >>> read_yaml("{a: off, b: 1:30, c: 1e-3, d: 010, e: 0x1F, f: ~}", "example")
    {'a': 'off', 'b': '1:30', 'c': 1e-3, 'd': 010, 'e': 0x1F, 'f': None}
    """
    loader = _Loader(text)
    loader.name = source
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def write_yaml(values: Any) -> str:
    """YAML of lists, mappings, texts, numbers, booleans and None, which versions 1.1 and 1.2 read alike.

    >>> print(write_yaml({"labels": ["off", "1:30", "1e5", "red"]}))
    labels:
    - 'off'
    - '1:30'
    - '1e5'
    - red
    <BLANKLINE>
    """
    return str(yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def _place(mark: yaml.Mark) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"
