"""Protocol-buffer text, as Triton reads it, without the library that parses it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class Word(str):
    """A name of an enumeration, which is written without quotes."""


def to_pbtxt(message: Mapping[str, Any]) -> str:
    """Fields in order; a sequence repeats its field, a mapping is a message, ``Word`` an enumeration's name.

    >>> print(to_pbtxt({"name": "a", "dims": [3, -1], "step": {"kind": Word("KIND_CPU"), "on": True}}), end="")
    name: "a"
    dims: 3
    dims: -1
    step {
      kind: KIND_CPU
      on: true
    }
    """
    return "".join(f"{line}\n" for line in _lines(message))


def _lines(message: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for field, value in message.items():
        repeated = isinstance(value, Sequence) and not isinstance(value, str)
        for item in value if repeated else [value]:
            if isinstance(item, Mapping):
                yield f"{indent}{field} {{"
                yield from _lines(item, indent + "  ")
                yield f"{indent}}}"
            else:
                # numbers, true and false, quoted text: as both languages write them
                yield f"{indent}{field}: {item if isinstance(item, Word) else json.dumps(item, ensure_ascii=False)}"
