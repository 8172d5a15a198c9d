"""What docs/deployment.md says is so."""

import re
import shlex
from pathlib import Path

import typer

from export.serving.metrics import Metrics
from export.serving.openapi import ERRORS
from multimodal.cli import app

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")


def test_its_commands_parse() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)
    lines = [line.partition("multimodal ")[2] for block in blocks for line in block.splitlines()
             if re.match(r"(taskset -c \d |\S*/)?multimodal ", line)]  # fmt: skip
    assert len(lines) >= 8
    commands = typer.main.get_command(app).commands
    for line in lines:
        name, *arguments = shlex.split(line, comments=True)
        commands[name].make_context(name, arguments)


def test_its_metrics_are_those_of_the_server() -> None:
    told = set(re.findall(r"`(multimodal_[a-z_]+)", GUIDE))
    made = Metrics()
    made.requests.labels("/predict", 200).inc()
    given = set(re.findall(r"^# TYPE (multimodal_[a-z_]+)", made.text().decode(), re.MULTILINE))
    assert told == {name for name in given if not name.endswith("_created")}


def test_its_status_codes_are_those_of_the_server() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", GUIDE, re.MULTILINE)
    told = {int(status) for row in rows for status in row.split(", ")}
    assert told >= set(ERRORS)


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", GUIDE)
    assert [link for link in links if not (ROOT / "docs" / link).is_file()] == []
