"""Penalties that keep encoders near their source, in a training."""

import pytest
import torch
from support.assertions import assert_close
from support.tiny_models import TinyText, make_dataset, make_model, make_rows
from support.tiny_pretrained import shop_job, shop_setup

from multimodal.builders.training import build_strategy, plan_training
from multimodal.config import ConfigError, parse_job
from multimodal.data.dataset import collate
from multimodal.model.objective import StepContext
from multimodal.trainer.optimization import build_optimizer, freeze_all_but
from multimodal.training import fit
from multimodal.transfer.penalties import SourceTokenPenalty, SourceWeightPenalty, anchored_names, without_decay
from multimodal.transfer.plan import OptimizerSpec
from multimodal.transfer.strategies import Finetune

pytestmark = pytest.mark.usefixtures("planted_encoders")


def seen(model, folder, n: int = 6, gaps: bool = True) -> StepContext:
    """Context of an objective of a batch with gaps, in training."""
    data = make_dataset(make_rows(folder, n, gaps=gaps), folder, model)
    batch = collate([data[0, row] for row in range(n)], data.readers, data.targets)
    return StepContext(model.train(), model(batch.inputs), batch, 0.0)


def anchors(model) -> dict[str, torch.Tensor]:
    return {name: p for name, p in model.named_parameters() if name.startswith("encoders.")}


# --- L2-SP -------------------------------------------------------------------------------------------------------


def test_at_the_start_the_penalty_is_zero_and_so_is_its_gradient(tmp_path):
    model = make_model()
    penalty = SourceWeightPenalty(anchors(model), alpha=0.1)(seen(model, tmp_path))
    penalty.backward()
    assert float(penalty.detach()) == 0.0
    assert all(bool((p.grad == 0).all()) for p in anchors(model).values())


def test_it_is_half_of_alpha_times_the_squared_distance_of_what_trains(tmp_path):
    model = make_model()
    objective = SourceWeightPenalty(anchors(model), alpha=0.1)
    with torch.no_grad():
        model.encoder("text").project.weight.add_(1.0)  # 64 entries
        model.encoder("image").second.weight.add_(1.0)
    model.encoder("image").requires_grad_(False)  # as in a phase that does not train it
    assert_close(objective(seen(model, tmp_path)), torch.tensor(0.1 / 2 * 64))
    model.requires_grad_(False)
    assert float(objective(seen(model, tmp_path))) == 0.0


def test_anchors_are_neither_saved_nor_trained():
    model = make_model()
    names = list(model.state_dict()), [name for name, _ in model.named_parameters()]
    model.objectives["l2_sp"] = SourceWeightPenalty(anchors(model), alpha=0.1)
    model.objectives["distill"] = SourceTokenPenalty({"text": model.encoder("text")}, 1.0)
    assert (list(model.state_dict()), [name for name, _ in model.named_parameters()]) == names


def test_what_is_anchored_is_not_decayed_and_the_rest_is():
    model = make_model()
    phases = Finetune().plan(model, 1)
    held = anchored_names(model, ["image"], phases)
    assert held == [name for name in anchors(model) if name.startswith("encoders.image.")]
    (phase,) = without_decay(phases, held)
    freeze_all_but(model, phase)
    groups = build_optimizer(model, phase, OptimizerSpec(weight_decay=0.3)).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        expected = 0.3 if parameter.ndim > 1 and name not in held else 0.0
        assert decay[id(parameter)] == expected, name


@pytest.mark.parametrize("key", ["l2_sp", "distill"])
def test_a_penalty_holds_encoders_nearer_to_their_source(shop, tmp_path, key):
    def move(strength: float) -> float:
        # SGD: AdamW's steps are as long whatever the size of the gradient. GroupNorm: an encoder with weights has
        # running statistics of its source, which a random BatchNorm has not
        train = {"train.optimizer": "sgd", "train.learning_rate": 0.03, "train.epochs": 6}
        changes = {f"transfer.{key}": strength, "transfer.encoder_scale": 1.0, **train}
        task = shop_job(shop, **changes, **{"inputs.image.options": {"norm": "group"}})
        run = fit(task, out=tmp_path / str(strength))
        assert not any("objective" in name for name in run.model.state_dict())
        return sum(max(values) for values in run.metrics["training"]["moved"].values())

    assert 0 < move(10.0) < 0.8 * move(0.0)


@pytest.mark.parametrize("key", ["l2_sp", "distill"])
def test_a_penalty_without_an_encoder_to_hold_is_refused(shop, key):
    changes = {f"transfer.{key}": 0.1, "inputs.image.frozen": True, "inputs.text.weights": None}
    job = shop_setup(shop, **changes)
    with pytest.raises(ConfigError, match=rf"transfer.{key} holds encoders near .* none that comes with weights is"):
        plan_training(job.job, job.model, build_strategy(job.job, job.model))


@pytest.mark.parametrize(
    ("key", "strategy"), [("l2_sp", "linear_probe"), ("l2_sp", "lora"), ("distill", "linear_probe")]
)
def test_strategies_that_leave_the_weights_alone_take_no_penalty(key, strategy):
    values = {"inputs": {"text": {"encoder": "compact/text"}}, "tasks": {"a": {}}}
    with pytest.raises(ConfigError, match=rf"{key} belongs to strategy: .*, and strategy is {strategy}; leave it out"):
        parse_job({**values, "transfer": {key: 0.1, "strategy": strategy}})


# --- feature distillation ----------------------------------------------------------------------------------------


def test_a_student_that_is_its_teacher_has_no_distance(tmp_path):
    model = make_model()
    objective = SourceTokenPenalty({name: model.encoder(name) for name in ("image", "text")}, 1.0)
    assert_close(objective(seen(model, tmp_path)), torch.tensor(0.0))


def test_the_distance_is_relative_to_the_source_and_the_mean_over_encoders(tmp_path):
    """Tokens 1.5 times as long: a squared distance of a quarter of their own."""
    model = make_model()
    objective = SourceTokenPenalty({name: model.encoder(name) for name in ("image", "text")}, 2.0)
    with torch.no_grad():
        for parameter in model.encoder("text").project.parameters():
            parameter.mul_(1.5)
    assert_close(objective(seen(model, tmp_path)), torch.tensor(2.0 * 0.25 / 2))


def test_teachers_stay_as_they_were_and_a_frozen_student_has_none(tmp_path):
    model = make_model(norm="batch", dropout=0.5)
    teacher = {name: value.clone() for name, value in model.encoder("image").state_dict().items()}
    objective = SourceTokenPenalty({"image": model.encoder("image")}, 1.0)
    loss = objective(seen(model.train(), tmp_path))
    loss.backward()
    assert loss > 0  # of the dropout
    kept = objective._teachers["image"]
    assert not kept.training
    assert all(torch.equal(value, teacher[name]) for name, value in kept.state_dict().items())
    model.encoder("image").requires_grad_(False)
    assert float(objective(seen(model, tmp_path))) == 0.0


def test_a_batch_without_the_input_has_no_distance(tmp_path):
    model = make_model()
    objective = SourceTokenPenalty({"text": model.encoder("text")}, 1.0)
    with torch.no_grad():
        model.encoder("text").project.weight.add_(1.0)
    data = make_dataset([{**row, "text": None} for row in make_rows(tmp_path, 3)], tmp_path, model)
    batch = collate([data[0, row] for row in range(3)], data.readers, data.targets)
    assert float(objective(StepContext(model.train(), model(batch.inputs), batch, 0.0)).detach()) == 0.0
    assert isinstance(model.encoder("text"), TinyText)
