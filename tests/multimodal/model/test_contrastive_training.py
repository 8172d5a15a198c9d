"""Learning without labels through the whole job: train, evaluate, take the encoder, export what answers."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import multimodal as mm
from multimodal.check.job import check_job
from multimodal.config import ConfigError, parse_job
from multimodal.run import Run
from multimodal.training import fit

COLORS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (40, 60, 220), "white": (240, 240, 240)}
PAIRS = list(product(COLORS, repeat=2))
CAPTIONS: dict[str, Any] = {
    "name": "captions",
    "data": {"workers": 0},
    "inputs": {
        "image": {"encoder": "compact/image", "weights": None, "options": {"image_size": 32}, "augment": {"flip": 0}},
        "text": {"encoder": "compact/text", "weights": None, "augment": {"enabled": False}},
    },
    "fusion": {"name": "late"},
    "tasks": {"match": {"type": "contrastive"}},
    "train": {"epochs": 12, "batch_size": 16, "learning_rate": 3e-3},
}
VIEWS = {
    **CAPTIONS,
    "name": "views",
    "inputs": {
        "image": {**CAPTIONS["inputs"]["image"], "augment": {"color": 0.6, "crop": 0.6}},
        "other": {"column": "image", "share": "image", "augment": {"color": 0.6, "crop": 0.6}},
    },
}


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    """Pictures of two colours side by side."""
    folder = tmp_path_factory.mktemp("flags")
    for left, right in PAIRS:
        pixels = np.zeros((32, 32, 3), np.uint8)
        pixels[:, :16], pixels[:, 16:] = COLORS[left], COLORS[right]
        Image.fromarray(pixels).save(folder / f"{left}_{right}.png")
    return folder


def rows(copies: int = 1) -> list[dict[str, Any]]:
    made = [{"image": f"{a}_{b}.png", "text": f"{a} left, {b} right", "left": a} for a, b in PAIRS]
    return made * copies


def make_job(values: dict[str, Any], **changes: Any) -> mm.Job:
    return parse_job({**values, **changes})


@pytest.fixture(scope="module")
def captions(media, tmp_path_factory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "captions"
    return fit(make_job(CAPTIONS), train=rows(4), valid=rows(), root=media, out=out)


@pytest.fixture(scope="module")
def views(media, tmp_path_factory) -> Run:
    """Beside a task with labels, which reads one of the views."""
    tasks = {"match": {"type": "contrastive", "inputs": ["image", "other"]}, "left": {"inputs": ["image"]}}
    out = tmp_path_factory.mktemp("runs") / "views"
    return fit(make_job(VIEWS, tasks=tasks, train={"epochs": 2}), train=rows(2), valid=rows(), root=media, out=out)


def top1(run: Run) -> dict[str, float]:
    return run.metrics["tasks"]["match"]["top1"]


def test_pictures_find_their_texts_far_above_chance(captions):
    assert captions.metrics["tasks"]["match"]["n"] == 16
    assert top1(captions)["low"] > 4 / 16


def test_where_one_of_the_inputs_is_hidden_there_is_nothing_to_find(captions):
    tables = captions.metrics["modalities"]
    assert {name: table["match"]["n"] for name, table in tables.items()} == {"image+text": 16, "image": 0, "text": 0}
    assert tables["image"]["match"]["top1"]["value"] is None


def test_views_are_changed_in_evaluation_alike_every_time(views, media):
    again = Run(views.folder).evaluate(rows(), root=media)
    assert again["tasks"] == views.metrics["tasks"]
    data = views.dataset(mm.read_records(rows(), root=media))
    (image, _), (other, _) = data[0, 0].inputs.values()
    assert not np.array_equal(image["pixels"], other["pixels"])
    assert data.augmentations.keys() == {"other"}  # the task with labels reads pictures as they are


def test_two_views_learn_to_find_each_other(media, tmp_path):
    values = {"train": rows(4), "valid": rows(), "root": media}
    before = fit(make_job(VIEWS, train={"epochs": 1, "learning_rate": 1e-9}), out=tmp_path / "before", **values)
    after = fit(make_job(VIEWS), out=tmp_path / "after", **values)
    assert top1(after)["value"] > top1(before)["value"]
    assert top1(after)["low"] > 2 / 16


def test_a_run_gives_its_encoder_to_a_later_job(captions, media, tmp_path):
    image = {**CAPTIONS["inputs"]["image"], "weights": str(captions.folder), "frozen": True, "augment": {}}
    job = make_job(CAPTIONS, inputs={"image": image}, tasks={"left": {}}, train={"epochs": 1})
    target = fit(job, train=rows(), valid=rows(), root=media, out=tmp_path / "target")
    source = captions.model.encoder("image").state_dict()
    assert all(torch.equal(source[name], value) for name, value in target.model.encoder("image").state_dict().items())


def test_a_run_that_only_compares_is_not_exported(captions, tmp_path):
    with pytest.raises(ValueError, match=r"only compares its inputs \(match\).*inputs.NAME.weights: RUN"):
        captions.export(tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_beside_other_tasks_a_contrastive_one_is_left_out_of_the_bundle(views, media, tmp_path):
    bundle = views.export(tmp_path / "bundle", records=mm.read_records(rows(), root=media))
    assert bundle.tasks == {"left": "classification"}
    assert "match" not in (bundle.folder / "README.md").read_text()
    (answer,) = mm.Predictor.load(bundle.folder).predict([{"image": media / "red_blue.png"}])
    assert answer.keys() == {"left"}


def test_views_of_an_encoder_that_nothing_trains_are_refused(media, tmp_path):
    inputs = {name: {**entry, "augment": {}} for name, entry in VIEWS["inputs"].items()}
    inputs["image"]["frozen"] = True
    with pytest.raises(ConfigError, match=r"inputs.image: .* nothing trains its encoder, so that it is not augmented"):
        fit(make_job(VIEWS, inputs=inputs), train=rows(), valid=rows(), root=media, out=tmp_path / "run")


def test_a_frozen_encoder_is_a_fixed_side_for_another_to_learn(media, tmp_path):
    text = {**CAPTIONS["inputs"]["text"], "frozen": True}
    job = make_job(CAPTIONS, inputs={**CAPTIONS["inputs"], "text": text}, train={"epochs": 1})
    run = fit(job, train=rows(), valid=rows(), root=media, out=tmp_path / "run", cache=False)
    assert run.metrics["tasks"]["match"]["n"] == 16


def test_tables_without_two_pairs_are_refused_and_found_by_check(media, tmp_path):
    alone = [row if index == 0 else {**row, "text": None} for index, row in enumerate(rows())]
    with pytest.raises(
        ConfigError, match=r"tasks.match: records with the columns image and text has 1 records with both; .* least two"
    ):
        fit(make_job(CAPTIONS), train=alone, valid=rows(), root=media, out=tmp_path / "run")
    pd.DataFrame(alone).to_csv(media / "alone.csv", index=False)
    (problem,) = check_job(make_job(CAPTIONS, data={"train": "alone.csv"}), media)
    assert (problem.severity, problem.column) == ("error", None)
    assert problem.message == "image and text: match has 1 records with both; contrastive needs at least two"


def test_beside_labels_it_trains_with_attention_and_leaves_the_bundle(media, tmp_path):
    fusion = {"name": "attention", "dim": 16, "num_heads": 2}
    job = make_job(CAPTIONS, tasks={"match": {"type": "contrastive"}, "left": {}}, fusion=fusion, train={"epochs": 1})
    run = fit(job, train=rows(2), valid=rows(), root=media, out=tmp_path / "run")
    assert run.metrics["tasks"]["match"]["n"] == 16
    bundle = run.export(tmp_path / "bundle", records=mm.read_records(rows(), root=media))
    assert bundle.tasks == {"left": "classification"}


@pytest.mark.parametrize("weighting", ["uncertainty", "pcgrad"])
def test_beside_labels_it_is_weighted_as_any_other_task(media, tmp_path, weighting):
    train = {"epochs": 1, "accumulate": 2, "batch_size": 16, "task_weighting": weighting}
    job = make_job(CAPTIONS, tasks={"match": {"type": "contrastive"}, "left": {}}, train=train)
    run = fit(job, train=rows(2), valid=rows(), root=media, out=tmp_path / "run")
    assert run.metrics["training"]["gradient_cosine"].keys() == {"match.left"}
    assert all(tensor.isfinite().all() for tensor in run.model.state_dict().values())


def test_accumulated_parts_and_labels_beside_it_train(media, tmp_path):
    tasks = {"match": {"type": "contrastive"}, "left": {}}
    gaps = [{**row, "text": None} if index % 5 == 0 else row for index, row in enumerate(rows(2))]
    job = make_job(CAPTIONS, tasks=tasks, train={"epochs": 1, "batch_size": 16, "accumulate": 2})
    run = fit(job, train=gaps, valid=rows(), root=media, out=tmp_path / "run")
    assert run.metrics["tasks"].keys() == {"match", "left"}
    assert run.metrics["trusts"].keys() == {"left"}
