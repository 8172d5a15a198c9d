import pytest
from torch import nn

from encoders.base import evaluating
from multimodal.model.modes import batch_norms, set_training_modes, training_batch_norms


def block() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)))


def freeze(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.requires_grad_(False)


def training(module: nn.Module) -> list[bool]:
    return [child.training for child in module.modules()]


def test_a_module_trains_iff_it_holds_a_trained_parameter_and_dropout_follows_what_encloses_it():
    model = nn.Sequential(block(), block(), nn.Dropout(0.5))
    freeze(model[0])
    model.train()
    set_training_modes(model)
    assert training(model[0]) == [False] * 6
    assert training(model[1]) == [True] * 6
    assert model.training
    assert model[2].training


def test_a_frozen_batchnorm_inside_a_trained_block_is_in_eval_mode_and_the_blocks_dropout_is_not():
    model = block()
    freeze(model[1])
    set_training_modes(model)
    assert [child.training for child in model] == [True, False, True, True]


def test_a_wholly_frozen_model_is_in_eval_mode():
    model = block()
    freeze(model)
    set_training_modes(model.train())
    assert not any(training(model))


def test_eval_mode_ends_with_the_block_even_after_an_error():
    model = nn.Sequential(block(), block())
    model.train()
    model[0].eval()
    before = training(model)
    with evaluating(model[0], model[1]):
        assert not any(training(model)[1:])
    assert training(model) == before
    with pytest.raises(ZeroDivisionError), evaluating(model):
        raise ZeroDivisionError
    assert training(model) == before


def test_batchnorms_are_found_and_those_named_whose_parameters_train():
    model = nn.Sequential(block(), nn.SyncBatchNorm(2), nn.GroupNorm(1, 2), block())
    assert batch_norms(model) == [model[0][1], model[3][1]]
    freeze(model[0])
    assert training_batch_norms(model) == ["3.1"]
