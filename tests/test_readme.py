"""Examples of README run."""

import pandas as pd
import pytest
from PIL import Image
from support.documents import ROOT, blocks
from support.tiny_models import make_rows

from encoders import registry

README = ROOT / "README.md"


def test_it_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.slow
def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [{**row, "photo": row.pop("image"), "product": row.pop("color")} for row in make_rows(tmp_path, 20)]
    pd.DataFrame(rows).to_csv("train.csv", index=False)
    pd.DataFrame(rows).to_csv("test.csv", index=False)
    Image.new("RGB", (64, 64)).save("a.jpg")
    code = blocks(README, "python")[0].replace(
        "torchvision/resnet50", "compact/image"
    )  # its weights are not on this disk
    exec(compile(code, "README.md", "exec"), {})
    assert "'value'" in capsys.readouterr().out


def test_the_plug_in_example_runs(monkeypatch):
    monkeypatch.setattr(registry.ENCODERS, "registered", {})
    exec(compile(blocks(README, "python")[1], "README.md", "exec"), {"__name__": "example"})
