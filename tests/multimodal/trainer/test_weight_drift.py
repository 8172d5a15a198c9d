"""Weight drift of a training."""

import math

import pytest
import torch
from support.logs import shown
from support.tiny_models import make_model
from support.tiny_pretrained import shop_job

from multimodal.trainer.weight_drift import WeightSnapshot
from multimodal.training import fit
from multimodal.transfer.lora import LowRankAdaptation
from multimodal.transfer.plan import EncoderPolicy
from multimodal.transfer.strategies import Finetune, LinearProbe, TwoPhase


def scale(model, factor: float, prefix: str) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(prefix):
                parameter.mul_(factor)


def test_a_move_is_relative_to_the_weights_and_told_by_depth():
    model = make_model()
    start = WeightSnapshot(model)
    scale(model, 1.1, "encoders.image.second")
    relative_drift = start.relative_drift(model)
    assert relative_drift["image"] == pytest.approx([0.0, 0.1])
    assert relative_drift["text"] == [0.0, 0.0]


def test_where_there_is_nothing_to_be_relative_to_nothing_is_said(caplog):
    model = make_model()
    scale(model, 0.0, "encoders.image.second")
    start = WeightSnapshot(model)
    assert start.relative_drift(model)["image"][1] is None
    start.log_small_drift(model, LinearProbe().plan(model, 1))
    assert caplog.messages == []


def test_next_to_no_move_is_a_warning_that_says_what_to_raise(caplog):
    model = make_model()
    start = WeightSnapshot(model)
    scale(model, 1.004, "encoders.image.")
    scale(model, 1.006, "encoders.text.")
    start.log_small_drift(model, Finetune().plan(model, 1))
    assert shown(caplog) == [
        "warning: image: fine-tuning moved the weights by 0.40% of their size, next to nothing; raise "
        "train.learning_rate or transfer.encoder_scale, or train.epochs, or save the time with transfer.strategy "
        "linear_probe"
    ]
    caplog.clear()
    start.log_small_drift(model, TwoPhase().plan(model, 2))
    (line,) = caplog.messages
    assert "raise transfer.two_phase.learning_rate, or train.epochs" in line


def test_low_rank_parts_are_judged_by_the_matrices_that_they_are_merged_into(caplog):
    model = make_model()
    start, strategy = WeightSnapshot(model), LowRankAdaptation(EncoderPolicy(frozen=frozenset({"image"})), rank=2)
    strategy.prepare(model)
    phases = strategy.plan(model, 1)
    strategy.finish(model)
    scale(model, 1.004, "encoders.text.project.weight")
    start.log_small_drift(model, phases)
    (line,) = shown(caplog)
    assert line.startswith("warning: text: fine-tuning moved the weights by 0.40% of their size")


def test_weights_from_before_fine_tuning_are_no_warning_but_a_remark(caplog):
    model = make_model()
    WeightSnapshot(model).log_small_drift(model, Finetune().plan(model, 1))
    lines = shown(caplog)
    assert len(lines) == 2
    assert lines[0].startswith("image: the weights that were kept are those from before its encoder was fine-tuned")


@pytest.mark.usefixtures("planted_encoders")
def test_a_run_keeps_how_far_its_weights_moved_also_after_a_resume(shop, tmp_path, caplog):
    task = shop_job(shop, **{"transfer.strategy": "partial"})
    run = fit(task, out=tmp_path / "run")
    relative_drift = run.metrics["training"]["moved"]
    assert "transfer: partial from the last depth group" in caplog.messages
    assert [value == 0 for value in relative_drift["text"]] == [True, False]
    assert all(math.isfinite(value) for values in relative_drift.values() for value in values)
    (run.folder / "metrics.json").unlink()
    assert fit(task, out=tmp_path / "run", resume=True).metrics["training"]["moved"] == relative_drift


@pytest.mark.usefixtures("planted_encoders")
def test_the_classic_rate_of_two_phases_hardly_moves_and_the_run_says_so(shop, tmp_path, caplog):
    task = shop_job(shop, **{"transfer.strategy": "two_phase", "train.epochs": 3})
    fit(task, out=tmp_path / "run")
    hardly = [line for line in caplog.messages if "next to nothing; raise transfer.two_phase.learning_rate" in line]
    before = [line for line in caplog.messages if "those from before its encoder was fine-tuned" in line]
    assert len(hardly) + len(before) == 2
