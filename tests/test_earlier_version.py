"""Runs and bundles that version 0.1 wrote still load, and answer as they did."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.assertions import assert_close

from export import Predictor, verify_bundle
from export.bundle_folder import read_bundle
from multimodal.run import Run

FOLDER = Path(__file__).with_name("golden") / "version_0_1"
"""Two small runs (attention and late fusion, every kind of task), their bundles, a table, and what was answered."""
NAMES = ("attention", "late")


def stored(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def records() -> list[dict[str, str]]:
    lines = (FOLDER / "val.csv").read_text(encoding="utf-8").splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    return [{"photo": row["image"], "text": row["text"], "audio": row["audio"]} for row in rows]


def test_its_bundles_are_whole(name):
    assert verify_bundle(FOLDER / "bundles" / name) == []
    assert read_bundle(FOLDER / "bundles" / name).identity()["created"] is None


def test_its_bundles_answer_as_they_did(name, records, monkeypatch):
    monkeypatch.chdir(FOLDER)
    predictor = Predictor.load(FOLDER / "bundles" / name)
    given = [{key: record[key] for key in predictor.modalities} for record in records]
    check_answers(predictor.predict(given), stored(f"{name}.json"))


def test_its_runs_are_evaluated_as_they_were(name):
    metrics = Run(FOLDER / "runs" / name).evaluate(FOLDER / "val.csv")
    for subset, tables in stored(f"{name}-metrics.json")["modalities"].items():
        for task, scores in tables.items():
            for metric, score in scores.items():
                if isinstance(score, dict) and isinstance(score.get("value"), float):
                    assert_close(metrics["modalities"][subset][task][metric]["value"], score["value"], "onnx")


@pytest.mark.slow
def test_its_runs_are_exported_with_the_answers_that_they_had(name, records, monkeypatch, tmp_path):
    monkeypatch.chdir(FOLDER)
    predictor = Predictor.load(
        Run(FOLDER / "runs" / name).export(tmp_path / "bundle", records=FOLDER / "val.csv").folder
    )
    given = [{key: record[key] for key in predictor.modalities} for record in records]
    check_answers(predictor.predict(given), stored(f"{name}.json"))


def check_answers(answers: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    for found, wanted in zip(answers, expected, strict=True):
        assert found.keys() == wanted.keys()
        for task, prediction in found.items():
            assert (prediction.label, list(prediction.labels)) == (wanted[task]["label"], wanted[task]["labels"])
            assert list(prediction.missing) == wanted[task]["missing"]
            for key, probability in wanted[task]["probabilities"].items():
                assert_close(prediction.probabilities[key], probability, "onnx")
            for key in ("value", "embedding"):
                if wanted[task][key] is not None:
                    assert_close(getattr(prediction, key), wanted[task][key], "onnx")
