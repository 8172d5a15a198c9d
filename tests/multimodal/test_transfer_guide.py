"""The example of docs/alignment.md: pairs without labels, class names, then labels."""

import re
from pathlib import Path

import pandas as pd
import pytest
from support.tiny_models import COLORS, make_rows

from multimodal.run import Run
from multimodal.training import fit

GUIDE = Path(__file__).parents[2] / "docs" / "alignment.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The YAML files of the guide, with tables of their columns beside them."""
    folder = tmp_path_factory.mktemp("guide")
    text = GUIDE.read_text(encoding="utf-8").partition("### From pairs without labels to a job")[2]
    for name, block in re.findall(r"`(\w+\.yaml)`.*?```yaml\n(.*?)```", text, flags=re.DOTALL):
        (folder / name).write_text(block, encoding="utf-8")
    table = pd.DataFrame(make_rows(folder, 20))
    tables = {"pairs": ["image", "text"], "photos": ["image"], "labelled": ["image", "text", "color"]}
    for name, columns in tables.items():
        table[columns].to_csv(folder / f"{name}.csv", index=False)
    return folder


def run(folder: Path, name: str) -> Run:
    return fit(folder / f"{name}.yaml", out=folder / "runs" / name, overrides=["data.workers=0"], cache=False)


def test_the_guide_s_jobs_run_one_after_the_other(folder):
    assert run(folder, "align").metrics["tasks"].keys() == {"match"}
    names = run(folder, "names")
    assert names.decodings["color"].to_config()["labels"] == sorted(COLORS)
    assert names.metrics["training"]["steps"] == 0
    labels = run(folder, "labels")
    assert labels.metrics["tasks"].keys() == {"color", "match"}
    assert (labels.folder / "history.csv").read_text().splitlines()[0].count("gradient_cosine.color.match") == 1
