"""Jobs of two domains: trained, resumed, reported, and what they refuse."""

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from support.assertions import assert_close
from support.interruption import KilledError, kill_at
from support.logs import logged, shown
from support.tiny_models import make_rows

import multimodal as mm
from multimodal.config import ConfigError
from multimodal.job import TrainingSetup
from multimodal.job.adapting import add_adaptation
from multimodal.run import Run, RunError
from multimodal.splits.tables import read_tables
from multimodal.training import fit


def make_job(transfer: dict[str, Any], **changes: Any) -> mm.Job:
    values = {
        "name": "domains",
        "data": {"workers": 0},
        "inputs": {"text": {"encoder": "compact/text"}},
        "fusion": {"name": "concat", "dim": 16},
        "tasks": {"color": {}},
        "transfer": transfer,
        "train": {"epochs": 2, "batch_size": 6},
    }
    return mm.Job.model_validate({**values, **changes})


DANN: dict[str, Any] = {"adapt": {"method": "dann"}}


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> list[dict[str, Any]]:
    return [{key: row[key] for key in ("text", "color")} for row in make_rows(tmp_path_factory.mktemp("media"), 24)]


@pytest.fixture(scope="module")
def tables(rows, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tables")
    paths = {name: folder / f"{name}.csv" for name in ("source", "unlabelled", "test")}
    pd.DataFrame(rows[:18]).to_csv(paths["source"], index=False)
    pd.DataFrame(rows).assign(color="wrong").to_csv(paths["unlabelled"], index=False)
    pd.DataFrame(rows[12:]).to_csv(paths["test"], index=False)
    return paths


@pytest.fixture(scope="module")
def run(tables, tmp_path_factory) -> tuple[Run, list[str]]:
    with logged() as said:
        return fit(make_job(DANN), **tables, out=tmp_path_factory.mktemp("runs") / "dann"), said


def test_a_transductive_run_says_so_and_warns_of_its_choice(run):
    trained, said = run
    assert said[0] == "setting: transductive (source labels and target inputs; source records choose the checkpoint)"
    assert any("16 train, 2 valid (held out of train), 12 test, 24 unlabelled" in line for line in said)
    assert "warning: no target labels: selection unreliable; the checkpoint was chosen by source validation" in said
    metrics = json.loads((trained.folder / "metrics.json").read_text())
    assert (metrics["setting"], metrics["split"]) == ("transductive", "test")
    scores = metrics["selection"]["tasks"]["color"]
    assert scores["target_entropy"]["value"] > 0
    assert scores["importance_weighted_risk"] is None  # of two validation records


def test_labels_in_the_unlabelled_table_are_never_seen(run):
    trained, _ = run
    assert "wrong" not in (trained.folder / "model.json").read_text()


def test_what_only_training_needed_is_left_behind(run):
    trained, _ = run
    assert not any("objectives" in name for name in trained.model.state_dict())
    with (trained.folder / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert all(0 <= float(entry["discriminator"]) <= 1 for entry in history)


def test_a_transductive_run_knows_its_tables_and_the_records_that_chose(run, tables):
    trained, _ = run
    assert trained.provenance["data"].keys() == {"source", "unlabelled", "test"}
    assert trained.job.data.source == str(tables["source"])
    valid, train = trained.validation_records(), trained.training_records()
    assert valid is not None
    assert train is not None
    assert (len(valid), len(train)) == (2, 16)


def test_a_killed_adaptation_resumes_to_the_same_weights_and_history(run, tables, tmp_path, monkeypatch):
    trained, _ = run
    job = make_job(DANN, train={"epochs": 2, "batch_size": 6, "checkpoint_steps": 2})
    whole = fit(job, **tables, out=tmp_path / "whole")
    with monkeypatch.context() as patched:
        kill_at(patched, 6)
        with pytest.raises(KilledError):
            fit(job, **tables, out=tmp_path / "killed")
    fit(job, **tables, out=tmp_path / "killed", resume=True)
    for name in ("model.safetensors", "history.csv"):
        expected = (whole.folder / name).read_bytes()
        assert (tmp_path / "killed" / name).read_bytes() == expected
        assert (trained.folder / name).read_bytes() == expected


def test_a_run_begun_on_other_target_inputs_is_not_resumed(tables, tmp_path, monkeypatch):
    job = make_job(DANN, train={"epochs": 2, "batch_size": 6, "checkpoint_steps": 1})
    with monkeypatch.context() as patched:
        kill_at(patched, 2)
        with pytest.raises(KilledError):
            fit(job, **tables, out=tmp_path / "run")
    begun = tmp_path / "run" / "model.json"
    content = json.loads(begun.read_text())
    content["provenance"]["data"]["unlabelled"] = "0" * 64
    begun.write_text(json.dumps(content))
    with pytest.raises(RunError, match="begun on another unlabelled table"):
        fit(job, **tables, out=tmp_path / "run", resume=True)


def test_tables_of_a_yaml_start_from_its_folder(tables, tmp_path):
    folder = tables["source"].parent
    values = make_job(DANN, train={"epochs": 1, "batch_size": 6}).model_dump(mode="json", exclude_unset=True)
    values["data"] |= {name: path.name for name, path in tables.items()} | {"source_valid": "test.csv"}
    (folder / "job.yaml").write_text(yaml.safe_dump(values))
    trained = fit(folder / "job.yaml", out=tmp_path / "run")
    assert trained.job.data.unlabelled == str(tables["unlabelled"])
    valid = trained.validation_records()
    assert valid is not None
    assert len(valid) == 12
    measured = trained.metrics["selection"]["tasks"]["color"]["importance_weighted_risk"]
    assert measured["value"] > 0
    assert 1 <= measured["effective_size"] <= 12


@pytest.mark.parametrize("method", ["cdan", "mmd", "deep_coral", "mcc", "entropy", "pseudo_labels"])
def test_every_method_trains_a_job(rows, tmp_path, method):
    job = make_job({"adapt": {"method": method}}, train={"epochs": 1, "batch_size": 6})
    trained = fit(job, source=rows[:12], unlabelled=rows, out=tmp_path / "run")
    assert trained.metrics["split"] == "valid"


def test_target_labels_with_target_inputs_are_inductive(rows, tmp_path, caplog):
    job = make_job({"adapt": {"method": "entropy"}}, train={"epochs": 1, "batch_size": 6})
    trained = fit(job, train=rows[:12], unlabelled=rows, out=tmp_path / "run")
    assert caplog.messages[0] == "setting: inductive (target labels)"
    assert "selection" not in trained.metrics


def test_frozen_encoders_read_target_inputs_once(rows, tmp_path, caplog):
    job = make_job({**DANN, "strategy": "linear_probe"})
    fit(job, source=rows[:6], unlabelled=rows, out=tmp_path / "run", cache=False)
    assert any(line.startswith("text: frozen; tokens of 6 values") for line in caplog.messages)


def test_a_small_batch_for_many_classes_is_warned_of(rows, caplog):
    job = make_job({"adapt": {"method": "mcc"}}, train={"batch_size": 5})
    built = TrainingSetup.build(job, read_tables(job, source=rows, unlabelled=rows), Path.cwd())
    add_adaptation(built, 1)
    assert shown(caplog) == [
        "warning: mcc compares 5 records of 3 classes at a time; with fewer than two per class it confuses "
        "right predictions: raise train.batch_size, or take another transfer.adapt.method"
    ]


def test_a_batch_that_cannot_give_every_process_every_domain_is_refused(rows, tmp_path):
    job = make_job(DANN, train={"batch_size": 1, "accumulate": 2})
    with pytest.raises(ConfigError, match="a step has 1 records of a table, for 1 processes with 2 parts of the batch"):
        fit(job, source=rows, unlabelled=rows, out=tmp_path / "run", cache=False)


def test_labels_are_those_of_source_and_target_together(rows):
    job = make_job({"source": {"weight": 1.0}})
    target, source = [row for row in rows if row["color"] != "red"], [row for row in rows if row["color"] != "blue"]
    built = TrainingSetup.build(job, read_tables(job, train=target, source=source), Path.cwd())
    assert built.heads["color"]["labels"] == ["blue", "green", "red"]


def test_unlabelled_rows_change_no_task_loss(rows):
    job = make_job(DANN)
    built = TrainingSetup.build(job, read_tables(job, source=rows, unlabelled=rows), Path.cwd())
    data = built.datasets.training
    assert [data[0, row].targets["color"] is None for row in (0, len(data) - 1)] == [False, True]
    assert_close(torch.tensor(data[0, 0].weight), torch.tensor(1.0))
