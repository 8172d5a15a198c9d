"""Averages of weights in a training: exact resume, and the better on the validation table is kept."""

from dataclasses import replace

import pytest
import torch
from support.assertions import assert_close
from support.interruption import KilledError, kill_at
from support.tiny_models import make_model
from support.tiny_pretrained import shop_job, shop_setup
from torch import nn

from multimodal.config import ConfigError, Transfer, parse_job
from multimodal.job.average_choice import _score, keep_the_better, reject_unshared_statistics
from multimodal.job.validator import Validator
from multimodal.runtime.distributed import Processes
from multimodal.trainer.weight_averaging import CandidateWeights, Ema, Soup, WeightAveraging, WiseFt, build_averaging
from multimodal.training import fit
from multimodal.transfer.averaging import AveragedState
from multimodal.transfer.strategies import Finetune, LinearProbe

pytestmark = pytest.mark.usefixtures("planted_encoders")


def make_job(shop, method: str, **changes):
    settings = {"transfer.average": method, "transfer.strategy": "probe_then_finetune", "train.epochs": 4}
    held = {"transfer.l2_sp": 0.1, "transfer.distill": 0.1}  # what they compare with is no part of a checkpoint
    return shop_job(shop, **{**settings, **held, **changes})


@pytest.mark.parametrize("method", ["wise_ft", "soup", "ema"])
def test_a_run_says_what_it_kept_and_resumes_to_the_same_bytes(shop, tmp_path, monkeypatch, caplog, method):
    job = make_job(shop, method, **{"train.checkpoint_steps": 1})
    whole = fit(job, out=tmp_path / "whole")
    told = whole.metrics["training"]["average"]
    assert any(line.startswith(f"average: {method} ({told['best']}) ") for line in caplog.messages)
    assert told["kept"] in ("plain", told["best"])
    assert whole.metrics["training"]["best_score"] == max(told["score"], told["plain"])
    with monkeypatch.context() as patched:
        kill_at(patched, 6)  # in the second phase: the first has one epoch of two steps
        with pytest.raises(KilledError):
            fit(job, out=tmp_path / "killed")
    again = fit(job, out=tmp_path / "killed", resume=True)
    assert (again.folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()
    assert again.metrics["training"]["average"] == told


def constant(model: nn.Module, value: float) -> dict[str, torch.Tensor]:
    return {name: torch.full_like(t, value) if t.is_floating_point() else t for name, t in model.state_dict().items()}


def set_to(model: nn.Module, value: float) -> nn.Module:
    model.load_state_dict(constant(model, value))
    return model


def mean(averaged: AveragedState) -> float:
    return float(next(iter(averaged.state.values())).mean())


def test_wise_ft_goes_from_the_probe_to_the_end_and_prefers_the_probe_among_equals(tmp_path):
    model, averaging = nn.Linear(2, 2), WiseFt(tmp_path, [0.0, 0.5, 1.0])
    averaging.begin_phase(model, 0)
    averaging.begin_phase(set_to(model, 1.0), 1)
    averaging.end_phase(set_to(model, 3.0))
    best = averaging.best(lambda averaged: -abs(mean(averaged) - 2.0))
    assert (best.name, mean(best.average), best.score) == ("share 0.5", 2.0, 0.0)
    assert best.tried == {"share 0": -1.0, "share 0.5": 0.0, "share 1": -1.0}
    assert averaging.best(lambda averaged: 1.0).name == "share 0"


def test_a_soup_keeps_the_best_epochs_only(tmp_path):
    model, averaging = nn.Linear(2, 2), Soup(tmp_path, 2)
    for epoch, score in enumerate([0.2, 0.8, 0.1, 0.9], start=1):
        averaging.end_epoch(set_to(model, float(epoch)), epoch, score)
    assert averaging.state() == {"scores": {"2": 0.8, "4": 0.9}}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["soup-000002.safetensors", "soup-000004.safetensors"]
    again = Soup(tmp_path, 2)
    again.restore(averaging.state(), {})
    best = again.best(lambda averaged: 1.0 if mean(averaged) == 3.0 else 0.0)
    assert (best.name, mean(best.average), best.score) == ("soup of epochs 4, 2", 3.0, 1.0)
    assert again.best(lambda averaged: 0.0).name == "soup of epochs 4"


def test_a_moving_average_begins_anew_with_each_phase_and_goes_on_from_its_checkpoint():
    """Decays of the first steps: (1 + n) / (10 + n), here 1/10 and 2/11."""
    model, averaging = nn.Linear(2, 2), Ema(0.99)
    averaging.begin_phase(set_to(model, 5.0), 0)
    averaging.begin_phase(set_to(model, 0.0), 1)
    averaging.after_step(set_to(model, 1.0))
    other = Ema(0.99)
    other.restore(averaging.state(), {name: tensor.clone() for name, tensor in averaging.tensors().items()})
    for each in (averaging, other):
        each.after_step(model)
        assert_close(mean(each.best(lambda averaged: 0.0).average), 2 / 11 * 0.9 + 9 / 11)


class Planned(WeightAveraging):
    """Gives one average."""

    def __init__(self, averaged: AveragedState) -> None:
        self.averaged = averaged

    def best(self, score):
        return CandidateWeights("planned", self.averaged, score(self.averaged))


@pytest.mark.parametrize(
    ("average", "plain", "kept"), [(0.7, 0.6, "planned"), (0.6, 0.6, "plain"), (0.5, 0.6, "plain")]
)
def test_the_better_on_the_validation_table_is_kept_and_of_equal_ones_the_plain(
    shop, monkeypatch, caplog, average, plain, kept
):
    job = shop_setup(shop, **{"transfer.average": "ema"})
    monkeypatch.setattr(Validator, "__call__", lambda self: ({}, average))
    before = {name: tensor.clone() for name, tensor in job.model.state_dict().items()}
    other = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in before.items()}
    score, told = keep_the_better(job, Planned(AveragedState(other, ())), plain)
    assert score == max(average, plain)
    assert told["kept"] == kept
    (line,) = caplog.messages
    assert line == f"average: ema (planned) {average:g}, without it {plain:g} on the validation table: {kept}"
    expected = other if kept == "planned" else before
    assert all(torch.equal(tensor, expected[name]) for name, tensor in job.model.state_dict().items())


def test_running_statistics_of_an_average_are_those_of_the_training_records(shop, monkeypatch):
    """Reference: mean and variance of what enters the BatchNorm, the mean over the batches of an epoch."""
    job = shop_setup(shop)
    monkeypatch.setattr(Validator, "__call__", lambda self: ({}, 0.0))
    encoder = job.model.encoder("image")
    names = [f"encoders.image.norm.{statistic}" for statistic in ("running_mean", "running_var")]
    state = {name: tensor.clone() for name, tensor in job.model.state_dict().items()}
    _score(job, AveragedState(state, tuple(names)))
    means, variances = [], []
    for (batch,) in job.loader.steps(0, job.order.steps_per_epoch):
        rows = batch.inputs["image"]["present"]
        with torch.no_grad():
            x = encoder.first(batch.inputs["image"]["pixels"][rows].float() / 255.0 - 0.5)
        x = x.transpose(0, 1).flatten(1)
        means.append(x.mean(dim=1))
        variances.append(x.var(dim=1))
    assert_close(encoder.norm.running_mean, torch.stack(means).mean(dim=0))
    assert_close(encoder.norm.running_var, torch.stack(variances).mean(dim=0))
    assert encoder.norm.momentum == 0.1
    assert not encoder.norm.training


def test_what_cannot_be_averaged_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="wise_ft, which needs a probe before fine-tuning, and finetune has one"):
        build_averaging(Transfer(strategy="finetune", average="wise_ft"), tmp_path, 1, writes=True)
    assert build_averaging(Transfer(), tmp_path, 1, writes=True) is None
    model, two = make_model(norm="batch"), replace(Processes(), world=2)
    phases = Finetune().plan(model, 1)
    with pytest.raises(ConfigError, match=r"statistics of 1 BatchNorm layers again, .* there are 2; train in one, or"):
        reject_unshared_statistics(Soup(tmp_path, 2), model, phases, two)
    reject_unshared_statistics(Soup(tmp_path, 2), model, phases, Processes())
    reject_unshared_statistics(Soup(tmp_path, 2), model, LinearProbe().plan(model, 1), two)
    reject_unshared_statistics(Ema(0.9), model, phases, two)


@pytest.mark.parametrize("shares", [[0.0, 0.5], [0.5, 1.0], [0.0, 1.0, 1.5], []])
def test_both_ends_are_among_the_shares_that_are_tried(shares):
    values = {"inputs": {"text": {"encoder": "compact/text"}}, "tasks": {"a": {}}}
    with pytest.raises(ConfigError, match=r"are not shares from 0 to 1 with both ends; give for example \[0, 0.5, 1\]"):
        parse_job({**values, "transfer": {"wise_ft_shares": shares}})
