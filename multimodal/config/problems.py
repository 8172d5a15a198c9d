"""Problems that pydantic finds in a job, in our words."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from multimodal.config.words import value_hint

_TAG = re.compile(r"(constrained-|literal\[|function-|list\[|dict\[)|(str|int|float|bool)$")
"""Begin of the names that pydantic gives to the members of a union."""


class ConfigError(ValueError):
    """A job description that cannot be used; the message says where, what is allowed and what to do."""


@contextmanager
def errors_of(place: str, kinds: type[Exception] | tuple[type[Exception], ...] = ValueError) -> Iterator[None]:
    """Turns an error inside the block into a ConfigError that begins with its place, as it is written here."""
    try:
        yield
    except kinds as error:
        raise ConfigError(f"{place}{error}") from error


@contextmanager
def as_config_error() -> Iterator[None]:
    """Turns pydantic's error into one with a line for each place, without its types and links."""
    try:
        yield
    except ValidationError as error:
        reasons: dict[str, list[str]] = {}
        for problem in error.errors():
            place = ".".join(str(part) for part in problem["loc"] if not _TAG.match(str(part)))
            reasons.setdefault(place, []).append(_reason(problem))
        lines = [f"{place + ': ' if place else ''}{', or '.join(found)}" for place, found in reasons.items()]
        raise ConfigError("\n".join(lines)) from None  # a traceback would show pydantic's message as well


def _reason(problem: Mapping[str, Any]) -> str:
    message, given, kind = str(problem["msg"]), problem["input"], problem["type"]
    if kind == "missing":
        return "is missing; give it"
    if message.startswith("Value error, "):
        return message.removeprefix("Value error, ")
    if kind in ("model_type", "dict_type"):
        message = "a mapping of names to settings is needed, such as {key: value}"
    if not isinstance(given, str | int | float | None):
        return f"is a {type(given).__name__}; {message[0].lower()}{message[1:]}"
    choices = re.findall("'([^']+)'", message) if kind == "literal_error" else []
    hint = "; put quotes around a text" if kind == "string_type" else value_hint(str(given), choices)
    return f"is {given!r}; {message[0].lower()}{message[1:]}{hint}"
