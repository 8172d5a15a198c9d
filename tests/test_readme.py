"""What README shows runs."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image
from tiny import make_rows
from typer.testing import CliRunner

from encoders import registry
from multimodal.cli import app
from multimodal.config import parse_task

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_it_is_short():
    assert len(README.splitlines()) <= 200


@pytest.mark.slow
def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [{**row, "photo": row.pop("image"), "product": row.pop("color")} for row in make_rows(tmp_path, 20)]
    pd.DataFrame(rows).to_csv("train.csv", index=False)
    pd.DataFrame(rows).to_csv("test.csv", index=False)
    Image.new("RGB", (64, 64)).save("a.jpg")
    code = blocks("python")[0].replace("torchvision/resnet50", "compact/image")  # its weights are not on this disk
    exec(compile(code, "README.md", "exec"), {})
    assert "'value'" in capsys.readouterr().out


def test_the_plug_in_example_runs(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    exec(compile(blocks("python")[1], "README.md", "exec"), {"__name__": "example"})


def test_the_yaml_is_a_job():
    task = parse_task(yaml.safe_load(blocks("yaml")[0]))
    assert list(task.inputs) == ["image", "text", "audio"]


def test_the_commands_exist():
    shown = {line.split()[1] for block in blocks("sh") for line in block.splitlines() if line.startswith("multimodal ")}
    assert shown
    for command in shown:
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0, command
