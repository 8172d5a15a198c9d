import pytest
import torch
from torch import nn

from encoders.parameter_order import depth_order, remove_unused


class Model(nn.Module):
    """Layers that are registered before what comes first, a shared matrix, and parts that nothing depends on."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))
        self.few = nn.ModuleList([nn.LayerNorm(3)])
        self.table = nn.Embedding(5, 3)
        self.pooler = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
        self.scale, self.spare = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
        self.last = nn.Linear(3, 3)
        self.used = nn.Linear(3, 3)
        self.used.extra = nn.Linear(3, 3)

    def forward(self):
        x = self.few[0](self.table.weight * self.scale)  # the table itself is never called
        for layer in self.layers:
            x = layer(x)
        tokens = self.used(self.last(x))
        return tokens, self.pooler(tokens)


@pytest.fixture
def model():
    return Model()


def test_what_tokens_do_not_depend_on_is_removed(model):
    before, _ = model()
    removed = remove_unused(model, before)
    assert sorted(removed) == [
        "pooler.0.bias",
        "pooler.0.weight",
        "spare",
        "used.extra.bias",
        "used.extra.weight",
    ]
    assert not set(removed) & {name for name, _ in model.named_parameters()}
    assert torch.equal(model()[0], before)  # it still runs
    model()[0].square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_nothing_is_removed_where_all_is_used():
    layer = nn.Linear(2, 2)
    assert remove_unused(layer, layer(torch.ones(1, 2))) == []


def test_order_is_that_of_the_forward_pass(model):
    remove_unused(model, model()[0])
    assert depth_order(model, model) == [
        ["scale", "few.0.weight", "few.0.bias", "table.weight"],
        ["layers.0.weight", "layers.0.bias"],
        ["layers.1.weight", "layers.1.bias"],
        ["last.weight", "last.bias", "used.weight", "used.bias"],
    ]


def test_a_model_without_layers_is_one_group():
    layer = nn.Linear(2, 2)
    assert depth_order(layer, lambda: layer(torch.ones(1, 2))) == [["weight", "bias"]]


class Stage(nn.Module):
    def __init__(self):
        super().__init__()
        self.reduce = nn.Linear(3, 3)
        self.blocks = nn.Sequential(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), nn.Sequential(nn.Linear(3, 3)))

    def forward(self, x):
        return self.blocks(self.reduce(x))


def test_stages_are_opened_and_what_lies_between_their_layers_is_a_group():
    model = nn.ModuleDict({"last": nn.Linear(3, 3), "stages": nn.ModuleList([Stage(), Stage()])})

    def run():
        x = torch.ones(1, 3)
        for stage in model["stages"]:
            x = stage(x)
        return model["last"](x)

    groups = [{name.rpartition(".")[0] for name in group} for group in depth_order(model, run)]
    assert groups == [
        {"stages.0.reduce"},
        {"stages.0.blocks.0.0", "stages.0.blocks.0.1"},
        {"stages.0.blocks.1.0"},
        {"stages.1.reduce"},
        {"stages.1.blocks.0.0", "stages.1.blocks.0.1"},
        {"stages.1.blocks.1.0"},
        {"last"},
    ]
