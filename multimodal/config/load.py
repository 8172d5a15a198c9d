"""Reading a job description from YAML, with changes from the command line."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from multimodal.config.job import Job
from multimodal.config.problems import ConfigError
from multimodal.config.section import RESOLVED
from multimodal.config.yaml_core import read_yaml


def load_job(path: str | Path, overrides: Sequence[str] = (), *, resolved: bool = False) -> Job:
    """Reads a job description.

    Args:
        path: YAML 1.2 file, in which off, 010 and 1:30 are texts.
        overrides: "a.b=c" each; the value is read as YAML.
        resolved: the file is a run's own config, whose settings without effect are no error.

    Raises:
        ConfigError: if the file is missing, is not YAML, has a key twice, or describes no job.
    """
    path = Path(path)
    try:
        loaded = read_yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a YAML config") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: holds no job; it needs at least `inputs` and `tasks`")
    return parse_job(loaded, overrides, source=str(path), resolved=resolved)


def parse_job(
    values: dict[str, Any], overrides: Sequence[str] = (), *, source: str = "config", resolved: bool = False
) -> Job:
    """Validates a job description that is already a dict; ``source`` begins the error messages."""
    values = copy.deepcopy(values)
    for index, override in enumerate(overrides):
        _apply_override(values, override, overrides[:index])
    try:
        return Job.model_validate(values, context=RESOLVED if resolved else None)
    except ConfigError as error:
        raise ConfigError("\n".join(f"{source}: {line}" for line in str(error).split("\n"))) from None


def override_job(job: Job, overrides: Sequence[str]) -> Job:
    """The job with changes, "a.b=c" each, validated again."""
    return parse_job(job.model_dump(mode="json"), overrides, source=job.name) if overrides else job


def _apply_override(values: dict[str, Any], override: str, earlier: Sequence[str]) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override!r} is not of the form a.b=c, for example train.epochs=3")
    node = values
    *parents, last = key.split(".")
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override!r}: {parent!r} is a single value and has no parts")
        node = child
    for other in earlier:
        given = other.partition("=")[0] + "."
        if given.startswith(f"{key}.") or (f"{key}.".startswith(given) and last in node):
            raise ConfigError(f"--set {override!r} replaces what --set {other!r} gives; keep one of them")
    try:
        node[last] = read_yaml(text, f"--set {override!r}")
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: {text!r} is not valid YAML; put quotes around a text") from error
