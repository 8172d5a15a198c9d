"""The guard at the end of a training, on planted encoders."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom
from support.known_transfer import color_rows, plant
from support.logs import logged

import multimodal as mm
from multimodal.run import GUARD_FILE
from multimodal.transfer.guard.trained import compare_trained


@pytest.fixture(autouse=True)
def _planted_encoders(monkeypatch):
    plant(monkeypatch)


def trained(tmp_path, encoder: str, **changes: Any) -> tuple[mm.Run, dict[str, Any], list[str]]:
    values: dict[str, Any] = {
        "inputs": {"text": {"encoder": encoder, "augment": {"enabled": False}}},
        "fusion": {"name": "concat"},
        "tasks": {"color": {}},
        "train": {"epochs": 1, "batch_size": 8},
        "data": {"workers": 0},
    }
    task = mm.Job.model_validate({**values, **changes})
    with logged() as lines:
        run = mm.fit(task, train=color_rows(36), valid=color_rows(12), out=tmp_path / "run", cache=False)
    return run, json.loads((run.folder / GUARD_FILE).read_text())["tasks"]["color"], lines


def test_frozen_weights_that_harm_are_named_and_the_model_is_left_as_it_was(tmp_path):
    run, found, lines = trained(tmp_path, "planted/scrambled", transfer={"strategy": "linear_probe"})
    assert found["verdict"] == "negative"
    assert "color: do not freeze these encoders: fine-tune them, or take the better arm, raw features" in lines
    assert set(found["arms"]) == {"majority", "raw", "random", "probe"}
    assert found["labels"] == {"blue": 12, "green": 12, "red": 12}
    assert not run.model.encoder("text").project.weight.any()
    (tmp_path / "off").mkdir()
    without, silent, _ = trained(
        tmp_path / "off", "planted/scrambled", transfer={"strategy": "linear_probe", "guard": "off"}
    )
    assert silent == {"verdict": "not measured", "reason": "transfer.guard is off"}
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(tensor, without.model.state_dict()[name])


def test_a_model_below_the_probe_is_said_to_be_worth_less(tmp_path):
    slow = {"epochs": 1, "batch_size": 36, "learning_rate": 1e-9}
    _, found, lines = trained(tmp_path, "planted/plain", train=slow)
    against = found["trained"]
    assert against["accuracy"]["probe"] == 1.0
    assert against["gaps"]["probe"]["verdict"] == "below"
    assert (against["records"], against["probe_records"], against["trained_records"]) == (12, 36, 36)
    assert any(line.startswith("color: ship the probe: the trained model is below it; set transfer.") for line in lines)


def test_the_probe_beside_the_model_has_the_weights_that_training_began_with(tmp_path):
    fast = {"epochs": 8, "batch_size": 4, "learning_rate": 0.05}
    _, found, _ = trained(tmp_path, "planted/plain", train=fast, transfer={"encoder_scale": 1.0})
    frozen, probe, _ = trained(tmp_path / "frozen", "planted/plain", transfer={"strategy": "linear_probe"})
    assert frozen.folder.is_dir()
    assert found["trained"]["accuracy"]["probe"] == probe["trained"]["accuracy"]["probe"]
    assert found["arms"] == probe["arms"]


def test_groups_stay_whole_in_the_guard(tmp_path):
    _, found, _ = trained(tmp_path, "planted/plain", data={"workers": 0, "group": "shoot"})
    assert found["groups"] == 7  # one record lacks its cell


def test_random_encoders_leave_nothing_to_measure(tmp_path):
    inputs = {"text": {"encoder": "planted/plain", "weights": None}}
    _, found, lines = trained(tmp_path, "planted/plain", inputs=inputs)
    assert found == {"verdict": "not measured", "reason": "no encoder comes with weights"}
    assert "color: transfer gap: not measured (no encoder comes with weights)" in lines


# --- the pure part ---


def test_a_model_that_loses_against_one_input_alone_names_that_input():
    right = {"model": np.zeros(50), "probe": np.zeros(50), "single:text": np.ones(50)}
    found = compare_trained(right)
    assert found["gaps"]["probe"]["verdict"] == "cannot be told"
    assert found["action"].startswith("ship text alone: the trained model is below a probe on it")


@pytest.mark.parametrize(
    "shares, words",
    [
        ({"model": 0.2, "probe": 0.5, "single:image": 0.8}, "ship image alone"),
        ({"model": 0.2, "probe": 0.8, "single:image": 0.5}, "ship the probe"),
        ({"model": 0.0, "probe": 0.4, "single:a b": 0.41}, "ship a b alone"),
        ({"model": 0.3, "probe": 0.9, "single:x": 0.6, "single:y": 0.7}, "ship the probe"),
        ({"model": 0.3, "probe": 0.6, "single:x": 0.6, "single:y": 0.9}, "ship y alone"),
    ],
)
def test_advice_names_the_best_of_the_probes(shares, words):
    right = {name: (np.arange(100) < 100 * share).astype(float) for name, share in shares.items()}
    assert compare_trained(right)["action"].startswith(words)


@pytest.mark.parametrize("probes, records", [(1, 80), (2, 60), (3, 100), (5, 80), (10, 120)])
def test_a_model_that_equals_all_probes_is_told_from_any_as_seldom_as_5_in_100(probes, records):
    names, told, times = ["model", *map(str, range(probes))], 0, 200
    for seed in range(times):
        rng = np.random.default_rng(seed)
        right = {name: (rng.random(records) < 0.7).astype(float) for name in names}
        found = compare_trained(right)
        told += any(gap["verdict"] != "cannot be told" for gap in found["gaps"].values())
    assert found["simultaneous"] == probes
    assert told <= binom.ppf(0.999, times, 0.05)  # 20: more in one of 1000 such tests of a rate of 5 %


def test_equal_answers_have_the_interval_of_the_rule_of_three():
    gap = compare_trained({"model": np.ones(60), "probe": np.ones(60)})["gaps"]["probe"]
    assert (gap["low"], gap["high"]) == pytest.approx((-0.05, 0.05))


def test_records_of_one_group_count_once():
    rng = np.random.default_rng(0)
    right = {"model": np.repeat(rng.integers(0, 2, 10), 10), "probe": np.repeat(rng.integers(0, 2, 10), 10)}
    right = {name: values.astype(float) for name, values in right.items()}
    alone, grouped = (
        compare_trained(right, groups=groups)["gaps"]["probe"] for groups in (None, np.repeat(np.arange(10), 10))
    )
    assert grouped["high"] - grouped["low"] > 2 * (alone["high"] - alone["low"])
