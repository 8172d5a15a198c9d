import math

import numpy as np
import pytest
import torch
from support.assertions import assert_close
from support.tiny_models import make_model
from torch import nn

from multimodal.trainer.optimization import build_optimizer, freeze_all_but, learning_rate_factor, set_learning_rate
from multimodal.transfer.plan import EncoderPolicy, OptimizerSpec, ParamGroup, Phase
from multimodal.transfer.strategies import Finetune, LinearProbe


def names_in(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, dict]:
    """Parameter name -> its group."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: group for group in optimizer.param_groups for p in group["params"]}


def test_only_the_parameters_of_the_phase_train():
    model = make_model()
    phase = LinearProbe().plan(model, 1)[0]
    freeze_all_but(model, phase)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for group in phase.groups for name in group.params}
    freeze_all_but(model, Finetune().plan(model, 1)[0])
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_every_parameter_is_stepped_once(name):
    model = make_model(norm="batch", fusion="attention")
    optimizer = build_optimizer(model, Finetune().plan(model, 1)[0], OptimizerSpec(name))
    listed = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(listed) == sorted(id(parameter) for parameter in model.parameters())
    assert type(optimizer).__name__.lower() == name


def test_only_matrices_and_kernels_decay():
    model = make_model(norm="batch", fusion="attention")
    groups = names_in(build_optimizer(model, Finetune().plan(model, 1)[0], OptimizerSpec(weight_decay=0.3)), model)
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.BatchNorm2d):
            assert groups[f"{name}.weight"]["weight_decay"] == 0, name
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding):
            assert groups[f"{name}.weight"]["weight_decay"] == 0.3, name
        if getattr(module, "bias", None) is not None:
            assert groups[f"{name}.bias"]["weight_decay"] == 0, name
    assert groups["fusion.missing.image"]["weight_decay"] == 0


def test_a_group_may_have_a_decay_of_its_own_zero_included():
    model = make_model()
    weight, other = "heads.color.linear.weight", "heads.price.linear.weight"
    phase = Phase("p", 1, (ParamGroup("a", (weight,), weight_decay=0.0), ParamGroup("b", (other,))))
    groups = names_in(build_optimizer(model, phase, OptimizerSpec(weight_decay=0.3)), model)
    assert (groups[weight]["weight_decay"], groups[other]["weight_decay"]) == (0.0, 0.3)


def test_each_group_has_its_scale_of_the_learning_rate():
    model = make_model()
    phase = Finetune(EncoderPolicy(scales={"image": 0.1})).plan(model, 1)[0]
    optimizer = build_optimizer(model, phase, OptimizerSpec(learning_rate=0.5))
    set_learning_rate(optimizer, 0.02)
    for name, group in names_in(optimizer, model).items():
        assert group["lr"] == pytest.approx(0.002 if name.startswith("encoders.image.") else 0.02), name


def test_an_optimizer_that_was_just_built_remembers_nothing():
    model = make_model()
    phase = Finetune().plan(model, 1)[0]
    first = build_optimizer(model, phase, OptimizerSpec())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    first.step()
    assert not build_optimizer(model, phase, OptimizerSpec()).state


def test_sgd_steps_as_its_formula_says():
    model = make_model()
    name = "heads.color.linear.weight"
    phase = Phase("p", 1, (ParamGroup("a", (name,), lr_scale=0.5),))
    parameter = dict(model.named_parameters())[name]
    optimizer = build_optimizer(model, phase, OptimizerSpec("sgd", weight_decay=0.2, momentum=0.8))
    expected = parameter.detach().double().numpy().copy()
    velocity = np.zeros_like(expected)
    for learning_rate in (0.1, 0.05):
        parameter.grad = torch.full_like(parameter, 0.3)
        set_learning_rate(optimizer, learning_rate)
        velocity = 0.8 * velocity + 0.3 + 0.2 * expected
        expected = expected - 0.5 * learning_rate * velocity
        optimizer.step()
    assert_close(parameter, expected)


@pytest.mark.parametrize(("total", "warmup"), [(10, 0.2), (100, 0.1), (7, 0.5), (1000, 0.033), (1, 0.0), (5, 0.0)])
def test_the_learning_rate_warms_up_and_follows_a_cosine_to_zero(total, warmup):
    warm = round(warmup * total)
    rising = (np.arange(warm) + 1) / max(1, warm)
    falling = np.cos(np.pi / 2 * np.arange(total - warm) / (total - warm)) ** 2
    factors = [learning_rate_factor(step, total, warmup) for step in range(total)]
    assert_close(factors, np.concatenate([rising, falling]), "float64")


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("total", [1, 2, 3, 10])
def test_the_learning_rate_is_never_zero_nor_above_the_peak(total, warmup):
    factors = [learning_rate_factor(step, total, warmup) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    assert all(map(math.isfinite, factors))
    assert max(factors) == pytest.approx(1)
