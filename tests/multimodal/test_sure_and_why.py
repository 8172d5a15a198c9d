"""A trained run and its bundle: temperatures, abstention, and explanations with and without torch."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from support.assertions import assert_close, near
from support.commands import run_command
from support.tiny_models import make_rows
from typer.testing import CliRunner

import multimodal as mm
from export import Predictor
from multimodal.cli import app
from multimodal.evaluation import answer, labelled_outputs
from multimodal.metrics.calibration import fit_temperature
from multimodal.run import Run
from multimodal.training import fit


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    rows = make_rows(folder, 36)
    for index, row in enumerate(rows):
        row["tags"] = "new;sale" if index % 3 else "new"
    for name, part in {"train": rows[:18], "valid": rows[18:30], "test": rows[30:]}.items():
        pd.DataFrame(part).to_csv(folder / f"{name}.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def run(media, tmp_path_factory) -> Run:
    task = mm.Job.model_validate({
        "data": {"workers": 0},
        "inputs": {
            "image": {"encoder": "compact/image", "weights": None, "options": {"image_size": 32}},
            "text": {"encoder": "compact/text", "weights": None},
        },
        "fusion": {"name": "concat", "dim": 16},
        "tasks": {"color": {}, "tags": {"type": "multilabel", "threshold": 0.7}, "price": {"type": "regression"}},
        "train": {"epochs": 2, "batch_size": 6},
    })  # fmt: skip
    tables = {name: media / f"{name}.csv" for name in ("train", "valid", "test")}
    return fit(task, **tables, out=tmp_path_factory.mktemp("runs") / "a")


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    run.export(folder)
    return folder


def test_the_temperatures_are_those_of_the_validation_records(run, media):
    data = run.dataset(mm.read_records(media / "valid.csv"))
    subset = run.model.input_names
    answers = answer(run.model, data, subsets=[subset])
    tasks = {task: run.decodings[task] for task in ("color", "tags")}
    for task, outputs, truth in labelled_outputs(answers, subset, data, tasks):
        fitted = fit_temperature(run.model.head(task).decoding(), outputs, truth.targets)
        assert fitted != 1.0
        assert_close(run.decodings[task].temperature, fitted)
    assert run.decodings["price"] == run.model.head("price").decoding()
    assert run.decodings["tags"].thresholds != (0.7, 0.7)  # they stay at the same logit


def test_metrics_have_the_calibration_before_and_after(run, media):
    metrics = run.metrics
    assert metrics["calibration"].keys() == metrics["calibration_fit"].keys() == {"color", "tags"}
    color, fitted = metrics["calibration"]["color"], metrics["calibration_fit"]["color"]
    assert (color["records"], fitted["records"]) == (6, 12)
    assert color["temperature"] == run.decodings["color"].temperature
    assert fitted["after"]["log_loss"] <= fitted["before"]["log_loss"]
    assert run.evaluate(media / "test.csv")["calibration"]["color"]["records"] == 6
    for task in ("color", "tags"):
        with Image.open(run.folder / "reliability" / f"{task}.png") as image:
            assert image.format == "PNG"


def test_the_bundle_answers_with_the_same_temperature(run, bundle, media):
    predictor = Predictor.load(bundle, device="cpu")
    assert predictor.decodings == run.decodings
    stored = json.loads((bundle / "tasks" / "color.json").read_text())["decoding"]
    assert stored["temperature"] == run.decodings["color"].temperature
    data = run.dataset(mm.read_records(media / "test.csv"))
    outputs = answer(run.model, data, subsets=[run.model.input_names]).outputs[run.model.input_names]
    expected = run.decodings["color"].scores(outputs["color"])
    answers = predictor.predict(media / "test.csv")
    assert_close([list(entry["color"].probabilities.values()) for entry in answers], expected, "onnx")


def test_a_run_from_before_there_were_temperatures_has_none(run, tmp_path):
    old = Path(shutil.copytree(run.folder, tmp_path / "old"))
    content = json.loads((old / "model.json").read_text())
    for entry in content["tasks"].values():
        entry["decoding"].pop("temperature", None)
        entry["decoding"].pop("min_probability", None)
    (old / "model.json").write_text(json.dumps(content))
    assert Run(old).decodings["color"].temperature == 1.0


def test_a_finished_run_learns_to_abstain_by_its_config(run, media, tmp_path):
    careful = Path(shutil.copytree(run.folder, tmp_path / "careful"))
    config = yaml.safe_load((careful / "config.yaml").read_text())
    config["tasks"]["color"]["min_probability"] = 0.99
    (careful / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    color = Run(careful).evaluate(media / "test.csv")["tasks"]["color"]
    assert color["coverage"]["value"] == 0.0
    assert color["accuracy"] == run.metrics["tasks"]["color"]["accuracy"]
    Run(careful).export(tmp_path / "bundle")
    arguments = ["predict", tmp_path / "bundle", "--data", media / "test.csv", "--out", tmp_path / "out.csv"]
    assert CliRunner().invoke(app, [*map(str, arguments), "--device", "cpu"]).exit_code == 0
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["color"] for row in rows} == {""}
    assert all(0 < float(row["color_probability"]) < 0.99 for row in rows)
    shown = CliRunner().invoke(app, ["predict", str(tmp_path / "bundle"), "--text", "red thing", "--device", "cpu"])
    assert "color\t(no answer)\t0." in shown.stdout


def explained(model: Path, media: Path, out: Path, *options: str, torch_free: bool = False) -> dict:
    arguments = ["explain", model, "--data", media / "test.csv", "--rows", "2", "--out", out, *options]
    done = run_command(*arguments, torch_free=torch_free)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 of 2 records explained" in done.stdout
    return json.loads((out / "0002.json").read_text())


def test_a_bundle_without_torch_explains_as_the_run_does(run, bundle, media, tmp_path):
    with_torch = explained(run.folder, media, tmp_path / "run")
    without = explained(bundle, media, tmp_path / "bundle", torch_free=True)
    assert len(with_torch["neighbors"]) == 3
    assert {near["record"].partition(",")[0] for near in with_torch["neighbors"]} == {"train.csv"}
    assert "neighbors" not in without
    for task, entry in with_torch["tasks"].items():
        other = without["tasks"][task]
        assert entry["answer"] == near(other["answer"], "onnx")
        assert_close([*other["contributions"]["inputs"].values()], [*entry["contributions"]["inputs"].values()], "onnx")
        for name, found in entry["parts"].items():
            drops = [[part["drop"] for part in parts] for parts in (other["parts"][name]["parts"], found["parts"])]
            assert_close(*drops, "onnx")
    shares = with_torch["tasks"]["color"]["contributions"]
    assert_close(np.sum([*shares["inputs"].values()]), shares["all"] - shares["none"], "float64")


def test_a_bundle_with_embeddings_names_neighbours_in_a_table_that_is_given(run, media, tmp_path):
    run.export(tmp_path / "bundle", embedding=True)
    found = explained(
        tmp_path / "bundle", media, tmp_path / "why", "--train", str(media / "test.csv"), "--task", "color"
    )
    assert found["neighbors"][0]["record"] == "test.csv, row 2"  # itself
    assert_close(found["neighbors"][0]["similarity"], 1.0, "onnx")
    assert list(found["tasks"]) == ["color"]


def test_the_command_says_what_is_wrong(bundle, media, tmp_path):
    def refused(*options: object) -> str:
        arguments = ["explain", bundle, "--data", media / "test.csv", "--out", tmp_path / "why", *options]
        return str(CliRunner().invoke(app, [*map(str, arguments)]).exception)

    assert "there is no task 'colour'; there are color, tags, price" in refused("--task", "colour")
    assert "export it again with --embedding" in refused("--train", media / "train.csv")
