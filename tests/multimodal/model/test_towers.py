"""An embedding task over a private tower, beside a classification task over its own."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from support.assertions import assert_close, changed
from support.synthetic_products import CONFIG, NEW, OLD, make_photos, write_table

import multimodal as mm
from multimodal.config import parse_job
from multimodal.data.dataset import collate
from multimodal.model.embedding_heads import ArcFaceHead, SupConHead
from multimodal.model.layers import TowerHead
from multimodal.run import Run
from multimodal.training import fit

TOWERS = {
    "tasks.product.tower": [12, 8],
    "tasks.tone": {"tower": [6]},
    "fusion.unimodal_weight": 0.5,
    "train.task_weighting": "pcgrad",
    "train.metric": "product.map",
}
HEADS = {"arcface": ArcFaceHead, "supcon": SupConHead}


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """Photos with their tone; a label is missing here and there."""
    folder = tmp_path_factory.mktemp("shop")
    for name, colors, count, seed in (("train", OLD, 8, 0), ("valid", OLD + NEW, 3, 1)):
        rows = make_photos(folder, colors, count, seed=seed)
        for place, row in enumerate(rows):
            row["tone"] = "light" if row["product"] in ("white", "yellow", "green") else "dark"
            row |= {"product": ""} if place % 5 == 4 else {"tone": ""} if place % 7 == 6 else {}
        write_table(folder / f"{name}.csv", rows)
    return folder


@pytest.fixture(scope="module", params=["arcface", "supcon"])
def run(request, shop, tmp_path_factory) -> Run:
    job = parse_job(changed(CONFIG, {**TOWERS, "tasks.product.loss": request.param}))
    return fit(job, train=shop / "train.csv", valid=shop / "valid.csv", out=tmp_path_factory.mktemp("runs") / "run")


def outputs(run: Run, shop: Path) -> dict[str, torch.Tensor]:
    dataset = run.dataset(mm.read_records(shop / "valid.csv"))
    batch = collate([dataset[0, row] for row in range(len(dataset))], dataset.readers, dataset.targets)
    run.model.zero_grad()
    return run.model(batch.inputs).outputs


def test_the_vector_is_of_length_1_behind_the_tower_and_learns(run, shop):
    head = run.model.head("product")
    assert isinstance(head, TowerHead)
    assert isinstance(head.head, HEADS[run.job.tasks["product"].loss])
    assert head.head.linear.in_features == 8
    vectors = outputs(run, shop)["product"]
    assert vectors.shape == (15, 16)
    assert_close(vectors.norm(dim=1), torch.ones(15))
    assert run.metrics["tasks"]["product"]["recall_at_1"]["value"] > 0.8
    assert run.metrics["tasks"]["tone"]["accuracy"]["value"] > 0.8


def test_no_other_task_s_loss_reaches_the_tower_of_the_embedding(run, shop):
    outputs(run, shop)["tone"].sum().backward()
    assert all(parameter.grad is None for parameter in run.model.head("product").parameters())
    outputs(run, shop)["product"].sum().backward()
    tower = run.model.head("product").tower
    assert all(parameter.grad is not None for parameter in tower.parameters())
    assert all(parameter.grad is None for parameter in run.model.head("tone").parameters())


def test_it_reloads_and_gives_the_same_vectors_without_torch_for_a_gallery(run, shop, tmp_path):
    again = Run(run.folder)
    assert again.evaluate(shop / "valid.csv")["tasks"] == run.metrics["tasks"]
    bundle = run.export(tmp_path / "bundle").folder
    sizes = [list(tensor.dims) for tensor in onnx.load(bundle / "model.onnx").graph.initializer]
    assert [4, 16] not in sizes  # centres serve the loss alone
    predictor = mm.Predictor.load(bundle)
    answers = predictor.predict(shop / "valid.csv")
    vectors = np.stack([answer["product"].embedding for answer in answers])
    assert_close(vectors, outputs(again, shop)["product"], "onnx")
    gallery = mm.Gallery.open(tmp_path / "gallery", predictor)
    table = [{"image": str(shop / f"{color}-1-0.png"), "product": color} for color in (*OLD, *NEW)]
    gallery.add(table, "product")
    found = gallery.search([{"image": str(shop / "yellow-1-1.png")}])[0]
    assert found.label == "yellow"
