"""Heads that are computed: the whole way from a table to a served answer, and what they are computed from."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support.assertions import assert_close
from support.tiny_models import make_rows

import multimodal as mm
from export import Predictor
from multimodal.builders.training import build_strategy
from multimodal.config import ConfigError
from multimodal.config.frozen_rules import computed_heads
from multimodal.evaluation import answer
from multimodal.features.closed_form import fit_heads, without_closed_form
from multimodal.features.neighbours_head import NeighboursHead
from multimodal.features.vectors import fused_vectors, read_vectors
from multimodal.job import TrainingSetup
from multimodal.job.kept_tokens import keep_tokens
from multimodal.records import RecordError, Records
from multimodal.run import Run
from multimodal.runtime.runtime import Runtime
from multimodal.splits.tables import read_tables
from multimodal.training import fit
from multimodal.transfer.probes.logistic import fit_logistic
from multimodal.transfer.probes.neighbours import fit_soft_neighbours

pytestmark = pytest.mark.usefixtures("planted_encoders")
KINDS = ("softmax", "svm", "class_mean", "knn")


def make_job(head: str = "softmax", **changes: Any) -> mm.Job:
    values: dict[str, Any] = {
        "data": {"workers": 0},
        "inputs": {
            "image": {"encoder": "planted/picture"},
            "text": {"encoder": "planted/words"},
        },
        "fusion": {"name": "concat"},
        "tasks": {"color": {"head": head}},
        "transfer": {"strategy": "linear_probe"},
        "train": {"epochs": 2, "batch_size": 8},
    }
    return mm.Job.model_validate(values | changes)


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    rows = make_rows(folder, 48, gaps=True)
    for name, part in {"train": rows[:24], "valid": rows[24:36], "test": rows[36:]}.items():
        pd.DataFrame(part).to_csv(folder / f"{name}.csv", index=False)
    return folder


def tables(media: Path) -> dict[str, Path]:
    return {name: media / f"{name}.csv" for name in ("train", "valid", "test")}


def kept(job: mm.Job, media: Path, train: Any = None) -> TrainingSetup:
    """A job with kept tokens, as ``train_job`` has it before the heads are computed."""
    train = media / "train.csv" if train is None else train
    found = read_tables(job, train=train, valid=media / "valid.csv", root=media)
    built = TrainingSetup.build(job, found, Path())
    return keep_tokens(built, set(), Runtime())


@pytest.mark.parametrize("head", KINDS)
def test_a_computed_head_goes_the_whole_way_to_a_served_answer(head, media, tmp_path, caplog):
    run = fit(make_job(head), **tables(media), out=tmp_path / "run")
    assert any(line.startswith(f"color: {head} head of 20 records") for line in caplog.messages)
    assert run.metrics["tasks"]["color"]["accuracy"]["value"] > 0.8
    assert run.metrics["training"]["steps"] == 0
    again = Run(run.folder)
    assert again.evaluate(media / "test.csv")["tasks"] == run.metrics["tasks"]
    assert run.decodings["color"].temperature != 1.0
    run.export(tmp_path / "bundle")
    records = mm.read_records(media / "test.csv")
    served = Predictor.load(tmp_path / "bundle", device="cpu").predict(media / "test.csv")
    assert [answer["color"].label for answer in served] == predicted(again, records)


def predicted(run: Run, records: Records) -> list[str | None]:
    shown = run.model.input_names
    outputs = answer(run.model, run.dataset(records), subsets=[shown]).outputs[shown]["color"]
    return [prediction.label for prediction in run.decodings["color"].predictions(outputs)]


def test_the_head_is_the_probe_that_was_fitted_scaling_and_all(media):
    job = make_job("softmax")
    built = kept(job, media)
    data = built.datasets.training
    fit_heads(computed_heads(job), built.model, data)
    vectors = read_vectors(data, ["image", "text"])
    fused = fused_vectors(built.model.eval(), vectors, ["image", "text"])
    cells = [data.targets["color"].read(data.records[int(row)]) for row in vectors.rows]
    known = np.array([cell is not None for cell in cells])
    classes = np.array([int(cell) for cell in cells if cell is not None])
    probe = fit_logistic(fused[known], classes, groups=vectors.rows[known], seed=job.train.seed)
    with torch.no_grad():
        logits = built.model.head("color")(torch.from_numpy(fused)).numpy()
    assert np.abs(logits - probe.classifier.logits(fused)).max() < 1e-5


def test_a_missing_input_stands_at_the_training_mean(media):
    job = make_job()
    built = kept(job, media)
    data = built.datasets.training
    fit_heads(computed_heads(job), built.model, data)
    vectors = read_vectors(data, ["image", "text"])
    fused = fused_vectors(built.model.eval(), vectors, ["image", "text"])
    width = built.model.fusion.in_dims["image"]
    present = vectors.present["image"]
    assert not present.all()
    assert_close(fused[~present, :width][0], fused[present, :width].mean(axis=0), "float32")


def test_inputs_that_a_task_does_not_read_have_no_weight(media):
    job = make_job(tasks={"color": {"head": "softmax", "inputs": ["text"]}, "price": {"type": "regression"}})
    built = kept(job, media)
    fit_heads(computed_heads(job), built.model, built.datasets.training)
    width = built.model.fusion.in_dims["image"]
    weight = built.model.head("color").linear.weight
    assert weight[:, :width].abs().max() == 0
    assert weight[:, width:].abs().max() > 0


def labelled_by(built: TrainingSetup) -> TrainingSetup:
    fit_heads(computed_heads(built.job), built.model, built.datasets.training)
    return built


def test_row_weights_reach_the_head(media):
    """Records of weight zero leave no trace: the head is that of a table without them."""
    rows = make_rows(media, 24)
    wrong = [{**row, "color": "blue"} for row in rows[1:10:3]]
    job = make_job("class_mean")
    clean = labelled_by(kept(job, media, train=pd.DataFrame(rows)))
    built = kept(job, media, train=pd.DataFrame([*rows, *wrong]))
    data = built.datasets.training
    data.weights = np.repeat([1.0, 0.0], [len(rows), len(wrong)])
    fit_heads(computed_heads(job), built.model, data)
    weighed = built.model.head("color").linear.weight
    # the mean that stands for missing values is that of all records, and these lack none
    assert_close(weighed, clean.model.head("color").linear.weight, "float32")


def test_records_without_a_label_or_any_input_do_not_count(media, caplog):
    rows = make_rows(media, 12)
    rows[0]["color"] = None
    rows[1] |= {"image": None, "text": None}
    labelled_by(kept(make_job(), media, train=pd.DataFrame(rows)))
    assert caplog.messages[-1].startswith("color: softmax head of 10 records: l2 ")
    assert " by 4 folds, held-out log likelihood -" in caplog.messages[-1]


def test_a_computed_head_beside_a_trained_one(media, tmp_path):
    """The trained task trains its own head and nothing that the computed one rests on."""
    mixed = make_job(tasks={"color": {"head": "softmax"}, "price": {"type": "regression"}})
    built = labelled_by(kept(mixed, media))
    run = fit(mixed, **tables(media), out=tmp_path / "run")
    assert run.metrics["training"]["steps"] > 0
    for name, value in run.model.state_dict().items():
        if name.startswith(("heads.color", "fusion")):
            assert_close(value, built.model.state_dict()[name], "float32")
    assert not torch.equal(run.model.head("price").linear.weight, built.model.head("price").linear.weight)


def test_nothing_is_left_to_train_where_all_heads_are_computed(media):
    built = kept(make_job(), media)
    phases = build_strategy(built.job, built.model).plan(built.model, 2)
    assert without_closed_form(computed_heads(built.job), built.model, phases) == []


def test_a_resumed_run_computes_the_same(media, tmp_path):
    mixed = make_job("knn", tasks={"color": {"head": "knn"}, "price": {"type": "regression"}})
    whole = fit(mixed, **tables(media), out=tmp_path / "whole")
    part = fit(mixed, **tables(media), out=tmp_path / "part")
    (part.folder / "metrics.json").unlink()
    newest = sorted((part.folder / "checkpoints").glob("*.safetensors"))
    assert newest
    again = fit(mixed, **tables(media), out=tmp_path / "part", resume=True)
    assert (again.folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_record_that_cannot_be_read_stops_or_is_listed(on_error, media, tmp_path):
    rows = make_rows(media, 12)
    rows[4]["image"] = "absent.png"
    job = make_job(data={"workers": 0, "on_error": on_error})
    if on_error == "raise":
        with pytest.raises(RecordError, match=r"'absent.png' does not exist"):
            fit(job, train=rows, valid=media / "valid.csv", root=media, out=tmp_path / "run")
        return
    run = fit(job, train=rows, valid=media / "valid.csv", root=media, out=tmp_path / "run")
    assert list(run.metrics["training"]["skipped_rows"]) == ["4"]


# --- the head of neighbours ---


def test_the_head_of_neighbours_is_the_probe():
    rng = np.random.default_rng(0)
    features, classes = rng.normal(size=(40, 6)), np.arange(40) % 3
    probe = fit_soft_neighbours(features[:, :4], classes)
    head = NeighboursHead(6, ["a", "b", "c"])
    head.fill(probe, np.arange(4))
    outputs = head(torch.from_numpy(features).float()).numpy()
    assert_close(outputs, probe.logits(features[:, :4]), "onnx")
    loaded = NeighboursHead(6, ["a", "b", "c"])
    loaded.load_state_dict(head.state_dict())
    assert torch.equal(loaded(torch.ones(1, 6)), head(torch.ones(1, 6)))
    assert_close(head.loss(torch.zeros(1, 3), torch.tensor([1])), torch.tensor([np.log(3)]).float())


# --- what is refused ---


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"fusion": {"name": "attention"}},
            "color.head is softmax, which needs a fusion with nothing to train, and att",
        ),
        ({"fusion": {"name": "concat", "dim": 8}}, "concat with dim trains; set fusion.name: concat and leave"),
        (
            {"transfer": {"strategy": "finetune"}},
            "may train image and text; set transfer.strategy: linear_probe or inpu",
        ),
        ({"fusion": {"name": "concat", "modality_dropout": 0.1}}, "on which fusion.modality_dropout has no effect"),
        (
            {"tasks": {"color": {"head": "svm", "label_smoothing": 0.1}}},
            "label_smoothing belongs to head: linear",
        ),
        ({"tasks": {"color": {"head": "knn", "imbalance": "class_weights"}}}, "knn knows no class weights"),
        ({"tasks": {"price": {"head": "svm", "type": "regression"}}}, "head belongs to type: classification"),
    ],
)
def test_a_job_whose_heads_cannot_be_computed_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_job(**changes)


def test_an_input_that_the_task_does_not_read_may_train():
    inputs = {"image": {"encoder": "planted/picture"}, "text": {"encoder": "planted/words", "frozen": True}}
    job = make_job(inputs=inputs, transfer={}, tasks={"color": {"head": "softmax", "inputs": ["text"]}})
    assert job.tasks["color"].head == "softmax"


def test_too_few_records_are_named(media):
    rows = [{**row, "color": f"shade {index}"} for index, row in enumerate(make_rows(media, 4))]
    with pytest.raises(ConfigError, match="no class has two records that can be used"):
        labelled_by(kept(make_job(), media, train=pd.DataFrame(rows)))


def test_a_class_without_a_readable_record_has_no_mean(media):
    rows = make_rows(media, 12)
    rows[0] |= {"color": "pink", "image": None, "text": None}
    with pytest.raises(ConfigError, match=r"tasks.color.head is class_mean: classes \[2\] have no record"):
        labelled_by(kept(make_job("class_mean"), media, train=pd.DataFrame(rows)))
