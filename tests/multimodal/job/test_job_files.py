"""What a job's commands write is never what they read: refused before anything is written."""

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.assertions import unchanged_files

from multimodal.config import Job, parse_job
from multimodal.cross_validation import cross_validate
from multimodal.job.run_folder import LOCK_FILE
from multimodal.run import OWN_FILES, Run
from multimodal.runtime.checkpoint import load_newest_checkpoint, save_checkpoint
from multimodal.runtime.files import OverwriteError
from multimodal.selection.ranking import rank
from multimodal.selection.transfer_gap import transfer_check
from multimodal.trainer import CHECKPOINTS
from multimodal.training import fit

JOB = """
data: {train: train.csv, valid: valid.csv, workers: 0}
inputs: {text: {encoder: compact/text, weights: null}}
tasks: {label: {}}
transfer: {guard: "off"}
train: {epochs: 1}
"""


def make_job(train: Path | str, **text: Any) -> Job:
    inputs = {"text": {"encoder": "compact/text", "weights": None, **text}}
    return parse_job({"data": {"train": str(train), "workers": 0}, "inputs": inputs, "tasks": {"label": {}}})


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job, its tables, a finished run, weights, and other names of some of them."""
    folder = tmp_path_factory.mktemp("shop")
    rows = "".join(f"red {number},a\ngreen {number},b\n" for number in range(6))
    for name in ("train.csv", "valid.csv", "test.csv"):
        (folder / name).write_text(f"text,label\n{rows}")
    (folder / "job.yaml").write_text(JOB)
    fit(folder / "job.yaml", out=folder / "run", cache=False)
    shutil.copy(folder / "run" / "model.safetensors", folder / "weights.safetensors")
    (folder / "link.json").symlink_to("run/model.json")
    (folder / "hard.json").hardlink_to(folder / "run" / "config.yaml")
    (folder / "here").symlink_to(".")
    return folder


@pytest.fixture
def unchanged(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The shop as working directory; nothing in it may be another afterwards."""
    monkeypatch.chdir(shop)
    with unchanged_files(shop):
        yield shop


def test_a_training_leaves_nothing_but_what_is_known_as_its_own(shop):
    assert {path.name for path in (shop / "run").iterdir()} <= {LOCK_FILE, *OWN_FILES}


@pytest.mark.parametrize(
    "out",
    [
        *("test.csv", "here/test.csv", "run/config.yaml", "here/run/metrics.json", "run/model.safetensors"),
        *("run/inputs/text/tokenizer.json", "run/checkpoints/new.json", "run/transfer.json", "link.json", "hard.json"),
    ],
)
def test_metrics_over_the_table_or_a_file_of_the_run_are_refused(unchanged, out):
    with pytest.raises(
        OverwriteError, match=f"--out {out} (is the same file as|lies in) (the table|a file of the run)"
    ):
        Run("run").evaluate("test.csv", out=out)


def test_metrics_beside_the_files_of_the_run_are_written_and_written_again(shop):
    for _ in range(2):
        Run(shop / "run").evaluate(shop / "test.csv", out=shop / "run" / "on_test.json")
    (shop / "run" / "on_test.json").unlink()


OUTS: Mapping[str, str] = {
    "job.yaml": "the config job.yaml",
    "here/job.yaml": "the config job.yaml",
    "train.csv": "the table data.train",
    "here/valid.csv": "the table data.valid",
    "test.csv": "the table data.test",
    "run/model.json": "the weights of inputs.text",
    "link.json": "the weights of inputs.text",
    "run/inputs/text/new.json": "the weights of inputs.text",
    "weights.safetensors": "the weights of inputs.text",
}


@pytest.mark.parametrize("function", [rank, transfer_check])
@pytest.mark.parametrize("out", OUTS)
def test_a_ranking_or_check_over_what_its_job_reads_is_refused(unchanged, function, out):
    overrides = [
        "data.test=test.csv",
        "inputs.text.weights=run",
        "inputs.text.candidates=['compact/text@weights.safetensors']",
    ]
    with pytest.raises(OverwriteError, match=f"--out {out} (is the same file as|lies in) {OUTS[out]}"):
        function("job.yaml", overrides=overrides, out=out)


@pytest.mark.parametrize("encoder", ["run", "here/run", "compact/text@run", "compact/text@run/inputs/text"])
def test_a_ranking_over_a_candidate_of_the_command_line_is_refused(unchanged, encoder):
    with pytest.raises(OverwriteError, match=r"--out run/metrics.json is the same file as the weights "):
        rank("job.yaml", encoders=[encoder], out="run/metrics.json")


@pytest.mark.parametrize(
    ("job", "out"),
    [
        (make_job("train.csv"), "train.csv"),
        (make_job("train.csv"), "here/train.csv"),
        (make_job("run/history.csv"), "run"),
        (make_job("here/run/history.csv"), "run"),
        (make_job("train.csv", weights="run"), "run"),
        (make_job("train.csv", weights="run/inputs/text"), "here/run"),
        (make_job("train.csv", candidates=["compact/text@run"]), "run"),
    ],
)
def test_a_run_over_what_its_job_reads_is_refused(unchanged, job, out):
    with pytest.raises(OverwriteError, match=f"--out {out}"):
        fit(job, out=out, resume=True)


@pytest.mark.parametrize("table", ["folds.csv", "cv/out_of_fold.csv", "cv/fold-1/history.csv", "here/cv/folds.json"])
def test_folds_over_their_own_table_are_refused(shop, tmp_path, monkeypatch, table):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cv" / "fold-1").mkdir(parents=True)
    (tmp_path / "here").symlink_to(".")
    shutil.copy(shop / "train.csv", table)
    out = table if table == "folds.csv" else "cv"
    with pytest.raises(OverwriteError, match=rf"--out {out}.* is the same file as the table data\.train"):
        cross_validate(make_job(table), 2, out=out, resume=True)


@pytest.mark.parametrize("table", ["run/history.csv", "run/inputs/text/table.csv", "run/reliability/label.png"])
def test_a_run_is_not_replaced_with_a_table_of_the_new_one_in_it(shop, tmp_path, monkeypatch, table):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(shop / "run", tmp_path / "run")
    (tmp_path / table).parent.mkdir(exist_ok=True)
    shutil.copy(shop / "train.csv", table)
    refused = pytest.raises(OverwriteError, match=f"--out {table} is the same file as the table data.train")
    with unchanged_files(tmp_path), refused:
        fit(make_job(table), out="run", overwrite=True)


def test_older_folds_are_not_removed_with_the_table_of_new_ones(shop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(shop / "run", tmp_path / "cv" / "fold-9")
    shutil.copy(shop / "train.csv", "cv/fold-9/history.csv")
    with pytest.raises(OverwriteError, match=r"--out cv/fold-9/history.csv is the same file"):
        cross_validate(make_job("cv/fold-9/history.csv"), 2, out="cv", overwrite=True)


def test_a_run_goes_on_by_its_own_config_and_leaves_it_as_it_is(shop, tmp_path):
    shutil.copytree(shop / "run", tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(written := "# in the user's own hand\n" + config.read_text())
    (tmp_path / "run" / "metrics.json").unlink()  # as if it had been killed before its end
    fit(config, out=tmp_path / "run", resume=True, cache=False)
    assert config.read_text() == written
    assert (tmp_path / "run" / "metrics.json").is_file()


@pytest.mark.parametrize("earlier", [0.0, 0.5, 1e3, 86_400.0, 1e7])
def test_the_seconds_of_a_resumed_run_are_those_of_all_its_processes(shop, tmp_path, earlier):
    run, checkpoints = shutil.copytree(shop / "run", tmp_path / "run"), tmp_path / "run" / CHECKPOINTS
    (run / "metrics.json").unlink()  # as if it had been killed before its end
    newest = load_newest_checkpoint(checkpoints)
    assert newest is not None
    assert newest.state["trainer"]["seconds"] > 0
    newest.state["trainer"]["seconds"] = earlier
    save_checkpoint(checkpoints, newest)
    began = time.monotonic()
    fit(run / "config.yaml", out=run, resume=True, cache=False)
    seconds = json.loads((run / "metrics.json").read_text())["training"]["seconds"]
    assert earlier < seconds < earlier + time.monotonic() - began
