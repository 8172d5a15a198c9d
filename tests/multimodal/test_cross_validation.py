"""Cross-validation of whole jobs: what is held out, what is kept, and the command."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from support.distributed_runs import run_worker
from support.known_transfer import color_rows, plant
from typer.testing import CliRunner

import multimodal as mm
from multimodal.cli import app
from multimodal.config import ConfigError
from multimodal.cross_validation import fold_tables, split_folds
from multimodal.records import read_records
from multimodal.run import RunError


@pytest.fixture(autouse=True)
def _planted_encoders(monkeypatch):
    plant(monkeypatch)


def make_job(**changes: Any) -> mm.Job:
    values: dict[str, Any] = {
        "data": {"workers": 0},
        "inputs": {"text": {"encoder": "planted/plain", "weights": None, "augment": {"enabled": False}}},
        "fusion": {"name": "concat"},
        "tasks": {"color": {}},
        "train": {"epochs": 2, "batch_size": 8},
    }
    return mm.Job.model_validate({**values, **changes})


@pytest.fixture
def table(tmp_path) -> Path:
    pd.DataFrame([row | {"price": i % 5} for i, row in enumerate(color_rows(36))]).to_csv(
        tmp_path / "train.csv", index=False
    )
    return tmp_path / "train.csv"


def test_no_record_of_a_fold_trains_or_chooses_its_run():
    rows = read_records(color_rows(60))
    job = make_job(data={"group": "shoot"})
    parts, by = split_folds(job, rows, 3)
    assert by == "color"
    for number in range(3):
        tables = fold_tables(job, {"train": rows}, {}, parts == number)
        assert tables.test is not None
        numbers = [set(table.numbers or ()) for table in (tables.train, tables.valid, tables.test)]
        assert set.union(*numbers) == set(range(60))
        assert sum(map(len, numbers)) == 60
        assert numbers[1] == set(tables.held_out or ())
        assert numbers[2] == set(tables.left_out) == set(np.flatnonzero(parts == number).tolist())
        shoots = [{rows[row]["shoot"] for row in part} - {""} for part in numbers]
        assert not shoots[0] & shoots[1] | shoots[0] & shoots[2] | shoots[1] & shoots[2]
        counts = pd.Series([row["color"] for row in tables.test.rows]).value_counts()
        assert counts.max() - counts.min() <= 2


def test_a_job_without_classes_is_split_at_random():
    rows = read_records([{"text": "blue", "price": i} for i in range(10)])
    parts, by = split_folds(make_job(tasks={"price": {"type": "regression"}}), rows, 5)
    assert by is None
    assert np.bincount(parts).tolist() == [2] * 5


def test_more_folds_than_the_table_allows_are_refused():
    with pytest.raises(ConfigError, match=r"--folds 5: no class has more than 2 groups of records, too few"):
        split_folds(make_job(), read_records(color_rows(6)), 5)


def test_every_fold_is_a_run_and_the_scores_are_their_means(table, tmp_path):
    job = make_job(tasks={"color": {}, "price": {"type": "regression"}}, data={"train": str(table), "workers": 0})
    found = mm.cross_validate(job, 3, out=tmp_path / "cv", cache=False)
    assert json.loads((tmp_path / "cv" / "folds.json").read_text()) == found
    runs = [mm.Run(tmp_path / "cv" / f"fold-{number}") for number in (1, 2, 3)]
    scores = [run.metrics["tasks"]["color"]["accuracy"]["value"] for run in runs]
    accuracy = found["tasks"]["color"]["accuracy"]
    assert accuracy["folds"] == scores
    assert accuracy["value"] == pytest.approx(np.mean(scores))
    assert 0 <= accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1
    assert len(found["tasks"]["price"]["rmse"]["folds"]) == 3
    assert (found["folds"], found["records"], found["stratified_by"], found["group"]) == (3, 36, "color", None)
    assert runs[0].metrics["split"] == "test"
    seen = [run.training_records() for run in runs]
    assert all(records is not None and len(records) == 22 for records in seen)


def test_answers_out_of_fold_are_those_of_the_run_that_did_not_see_the_record(table, tmp_path):
    job = make_job(tasks={"color": {}, "price": {"type": "regression"}}, data={"train": str(table), "workers": 0})
    found = mm.cross_validate(job, 3, out=tmp_path / "cv", cache=False)
    with (tmp_path / "cv" / "out_of_fold.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["row", "fold", "color", "color_probability", "price"]
    assert [line["row"] for line in lines] == [str(row) for row in range(1, 37)]
    truth = pd.read_csv(table)["color"]
    for number in (1, 2, 3):
        right = [line["color"] == truth[int(line["row"]) - 1] for line in lines if line["fold"] == str(number)]
        assert np.mean(right) == pytest.approx(found["tasks"]["color"]["accuracy"]["folds"][number - 1])


def test_overwrite_replaces_the_folds_and_removes_those_that_are_too_many(table, tmp_path):
    job, out = make_job(data={"train": str(table), "workers": 0}), tmp_path / "cv"
    mm.cross_validate(job, 3, out=out, cache=False)
    found = mm.cross_validate(job, 2, out=out, cache=False, overwrite=True)
    assert {path.name for path in out.iterdir()} == {"fold-1", "fold-2", "folds.json", "out_of_fold.csv"}
    assert found["folds"] == 2


def test_folds_that_came_to_no_checkpoint_do_not_block_their_folder(table, tmp_path):
    job, out = make_job(data={"train": str(table), "workers": 0}), tmp_path / "cv"
    mm.cross_validate(job, 2, out=out, cache=False)
    for path in [*out.glob("fold-*/model.safetensors"), *out.glob("fold-*/metrics.json"), *out.glob("*.*")]:
        path.unlink()
    for path in out.glob("fold-*/checkpoints/*"):
        path.unlink()
    assert mm.cross_validate(job, 2, out=out, cache=False)["folds"] == 2


@pytest.mark.parametrize("stranger", ["notes.txt", "fold-1/notes.txt", "fold-0/model.json"])
def test_a_folder_that_holds_more_than_folds_is_refused_and_left(table, tmp_path, stranger):
    path = tmp_path / "cv" / stranger
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    for options in ({}, {"overwrite": True}):
        with pytest.raises(RunError, match="is not empty and holds more than folds; name another folder"):
            mm.cross_validate(make_job(data={"train": str(table), "workers": 0}), 2, out=tmp_path / "cv", **options)
    assert path.read_text() == "mine"


def test_finished_folds_are_kept_and_the_others_trained(table, tmp_path, caplog):
    job = make_job(data={"train": str(table), "workers": 0})
    first = mm.cross_validate(job, 2, out=tmp_path / "cv", cache=False)
    with pytest.raises(RunError, match="is not empty; add --resume to continue the folds in it"):
        mm.cross_validate(job, 2, out=tmp_path / "cv", cache=False)
    (tmp_path / "cv" / "fold-2" / "metrics.json").unlink()  # as if it had been killed before its end
    (tmp_path / "cv" / "folds.json").unlink()
    again = mm.cross_validate(job, 2, out=tmp_path / "cv", cache=False, resume=True)
    assert again == first
    assert f"{tmp_path / 'cv' / 'fold-1'} is finished; kept" in caplog.messages
    with pytest.raises(RunError, match="was begun on another fold of the training table"):
        mm.cross_validate(job, 3, out=tmp_path / "cv", cache=False, resume=True)
    with pytest.raises(RunError, match="was begun on another fold of the training table"):
        mm.fit(job, out=tmp_path / "cv" / "fold-1", resume=True)
    pd.DataFrame(color_rows(30)).to_csv(table, index=False)
    with pytest.raises(RunError, match="was begun on another training table"):
        mm.cross_validate(job, 2, out=tmp_path / "cv", cache=False, resume=True)


@pytest.mark.slow
def test_two_processes_read_each_fold_once_it_is_written(tmp_path):
    run_worker(Path(__file__).with_name("folds_worker.py"), tmp_path / "run", tmp_path, world=2)
    written, *returned = (
        json.loads((tmp_path / "run" / name).read_text()) for name in ("folds/folds.json", "rank-0.json", "rank-1.json")
    )
    assert returned[0] == returned[1]
    assert returned[0]["tasks"] == written["tasks"]
    assert len(written["tasks"]["color"]["accuracy"]["folds"]) == 2


def test_a_class_that_a_fold_lacks_leaves_it_without_auc_and_is_listed(tmp_path):
    rows = [*color_rows(30), {"text": "thing", "color": "white", "shoot": "9"}]
    found = mm.cross_validate(make_job(), 3, train=rows, out=tmp_path / "cv", cache=False)
    auc = found["tasks"]["color"]["auc"]["folds"]
    absent = found["absent"]["color"]
    assert {number for number, value in enumerate(auc, 1) if value is None} == {int(number) for number in absent}
    assert len(absent) >= 2


def test_the_command_shows_every_fold(table, tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(make_job(data={"train": "train.csv", "workers": 0}).model_dump(exclude_unset=True)))
    done = CliRunner().invoke(app, ["train", str(path), "--folds", "2", "--out", str(tmp_path / "cv"), "--no-cache"])
    assert done.exit_code == 0, done.output
    assert "task\tmetric\tmean\t95% interval\tfold 1\tfold 2\n" in done.output
    assert "color\taccuracy\t" in done.output
    assert CliRunner().invoke(app, ["train", str(path), "--folds", "1"]).exit_code == 2
