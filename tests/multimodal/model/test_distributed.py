"""Embedding tasks in several processes."""

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.assertions import assert_close
from support.distributed_runs import run_worker
from support.synthetic_products import NEW, OLD, make_photos, write_table

from multimodal.runtime.checkpoint import load_newest_checkpoint

WORKER = Path(__file__).with_name("ddp_worker.py")


def assert_same_weights(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert_close(value, right[name], "steps")


@pytest.mark.slow
def test_arcface_over_a_tower_learns_in_two_processes_what_it_learns_in_one(tmp_path):
    rows = make_photos(tmp_path, OLD, 5, seed=0)
    for row in rows[::3]:
        row["product"] = ""  # some processes then have no label in some step
    write_table(tmp_path / "train.csv", rows)
    write_table(tmp_path / "valid.csv", make_photos(tmp_path, OLD + NEW, 3, seed=1))
    for name, world in (("one", 1), ("two", 2)):
        run_worker(WORKER, tmp_path / name, tmp_path, "arcface", world=world)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert any(name.endswith("centres") for name in one)
    assert_same_weights(one, two)
    scores = [
        list(csv.DictReader((tmp_path / name / "history.csv").read_text().splitlines())) for name in ("one", "two")
    ]
    assert_close([float(row["product.map"]) for row in scores[1]], [float(row["product.map"]) for row in scores[0]])


@pytest.mark.slow
def test_supcon_compares_within_a_process_as_it_does_within_a_part_of_the_batch(tmp_path):
    for name, world in (("one", 1), ("two", 2)):
        run_worker(WORKER, tmp_path / name, tmp_path / "media", "supcon", world=world)
    one, two = (json.loads((tmp_path / name / "losses.json").read_text()) for name in ("one", "two"))
    assert len(one) == 3
    assert_close(two, one, "float32")
    left, right = (load_newest_checkpoint(tmp_path / name / "checkpoints") for name in ("one", "two"))
    assert left is not None
    assert right is not None
    assert_same_weights(left.tensors, right.tensors)


@pytest.mark.slow
def test_processes_that_would_cut_groups_of_a_label_are_refused(tmp_path):
    write_table(tmp_path / "train.csv", make_photos(tmp_path, OLD, 4, seed=0))
    said = run_worker(WORKER, tmp_path / "run", tmp_path, "odd", world=2, fails=True)
    assert "of which 2 processes with 1 parts (train.accumulate) each must get whole groups of 3 records" in said
