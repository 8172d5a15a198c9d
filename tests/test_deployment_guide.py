"""Statements of docs/deployment.md are so."""

import re
from pathlib import Path

from export.serving.metrics import Metrics
from export.serving.openapi import PREDICTION

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")


def test_its_metrics_are_those_of_the_server() -> None:
    told = set(re.findall(r"`(multimodal_[a-z_]+)", GUIDE))
    made = Metrics()
    made.requests.labels("/predict", 200).inc()
    made.show_bundle({"name": "shop"})
    given = set(re.findall(r"^# TYPE (multimodal_[a-z_]+)", made.text().decode(), re.MULTILINE))
    assert told == {name for name in given if not name.endswith("_created")}


def test_its_status_codes_are_those_of_the_server() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", GUIDE, re.MULTILINE)
    told = {int(status) for row in rows for status in row.split(", ")}
    assert told >= PREDICTION.keys() - {"default"}
