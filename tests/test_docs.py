"""Examples in the documents are what they say: jobs, settings, commands, code, links."""

import ast
import importlib.util
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import typer
from pydantic import TypeAdapter
from support.documents import DOCUMENTS, ROOT, blocks, spans

import multimodal as mm
from multimodal.cli import app
from multimodal.config import Job, parse_job
from multimodal.config.setting import TABLES, setting_of
from multimodal.config.yaml_core import read_yaml

MINIMAL = {"inputs": {"text": {"encoder": "compact/text"}}, "fusion": {"name": "concat"}, "tasks": {"product": {}}}
"""What an example leaves out."""
SETTING = re.compile(r"((?:data|inputs|fusion|tasks|transfer|train)(?:\.\w+)+): (.+)")
COMMAND = re.compile(r"(?:^|[ /])multimodal ([a-z].*)")
MODULE = re.compile(r"python (?:-m ([\w.]+)|(\S+\.py))")


def examples(find: Callable[[Path], list[str]], fewest: int) -> pytest.MarkDecorator:
    """A test for each of what is found in any document, named after its place."""
    found = [(f"{path.name} {number}", one) for path in DOCUMENTS for number, one in enumerate(find(path), 1)]
    assert len(found) >= fewest, "the pattern finds fewer examples than there are"
    return pytest.mark.parametrize("example", [one for _, one in found], ids=[place for place, _ in found])


def commands(path: Path) -> list[str]:
    """Shell lines that call the command line, from its name on."""
    lines = [line for block in blocks(path, "sh") for line in block.replace("\\\n", " ").splitlines()]
    return [found[1] for line in lines if (found := COMMAND.search(line))]


def settings(path: Path) -> list[str]:
    """Inline settings with a value, such as ``transfer.views: 4``."""
    return [span for span in spans(path) if SETTING.fullmatch(span)]


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that these words call, and its arguments."""
    command = typer.main.get_command(app)
    while hasattr(command, "commands") and not words[0].startswith("-"):
        assert words[0] in command.commands, words
        command, words = command.commands[words[0]], words[1:]
    return command, words


@examples(lambda path: blocks(path, "yaml"), 15)
def test_yaml_is_a_job(example):
    job = parse_job(MINIMAL | read_yaml(example, "example"))
    given = [name for name in TABLES if getattr(job.data, name) is not None]
    if given:
        setting_of(job, given)


@examples(settings, 20)
def test_a_setting_has_its_key_and_takes_its_value(example):
    found = SETTING.fullmatch(example)
    assert found is not None
    listed = re.search(r"\w+(?: \| \w+)+", found[2])
    for choice in [""] if listed is None else listed[0].split(" | "):
        value = found[2] if listed is None else found[2].replace(listed[0], choice)
        TypeAdapter(annotation_of(found[1].split("."))).validate_python(read_yaml(value, example))


def annotation_of(keys: list[str]) -> Any:
    """The type of the value at these keys of a job, of which some are names of inputs and tasks."""
    annotation: Any = Job
    for key in keys:
        if get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
        else:
            section = next(one for one in (annotation, *get_args(annotation)) if hasattr(one, "model_fields"))
            assert key in section.model_fields, f"there is no key {key!r} in {keys}"
            annotation = section.model_fields[key].rebuild_annotation()
    return annotation


@examples(commands, 30)
def test_a_command_parses(example, tmp_path, monkeypatch):
    command, arguments = command_of(shlex.split(example, comments=True))
    monkeypatch.chdir(tmp_path)
    for word in arguments:  # runs and bundles of the reader
        if not word.startswith(("-", "/")) and not Path(word).suffix:
            Path(word).mkdir(parents=True, exist_ok=True)
    command.make_context(command.name, arguments)


@examples(lambda path: [span for span in spans(path) if span.startswith("multimodal ")], 5)
def test_a_command_in_a_sentence_has_its_options(example):
    command, arguments = command_of(re.sub(r"[\[\]]", "", example).split()[1:])
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in arguments if word.startswith("--")} <= known


@examples(lambda path: MODULE.findall(path.read_text(encoding="utf-8")), 5)
def test_a_program_is_there(example):
    module, file = example
    assert importlib.util.find_spec(module) is not None if module else (ROOT / file).is_file()


@examples(lambda path: blocks(path, "python"), 5)
def test_python_compiles_and_what_it_takes_from_us_is_there(example):
    tree = ast.parse(example)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), "example", "exec"), {})
    taken = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    assert [node.attr for node in taken if node.value.id == "mm" and not hasattr(mm, node.attr)] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []
