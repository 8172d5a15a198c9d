import torch
from support.assertions import assert_close
from torch import nn

from encoders.image.layers import Normalize, blocks_of


def names(model: nn.Module, blocks) -> list[list[str]]:
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    return [[named[id(parameter)].removesuffix(".weight") for parameter in block] for block in blocks]


def conv() -> nn.Module:
    return nn.Conv2d(3, 3, 1, bias=False)


def norm() -> nn.Module:
    return nn.BatchNorm2d(3)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = conv(), conv()

    def forward(self, x):
        return x + self.second(self.first(x))


def test_sequences_are_opened_and_other_modules_are_blocks():
    model = nn.Sequential(
        conv(), nn.ReLU(), nn.Sequential(Block(), nn.Sequential(Block(), conv())), nn.ModuleList([conv()])
    )
    blocks = names(model, blocks_of(model.children()))
    assert blocks == [["0"], ["2.0.first", "2.0.second"], ["2.1.0.first", "2.1.0.second"], ["2.1.1"], ["3.0"]]


def test_a_norm_goes_with_what_is_before_it_else_with_what_follows():
    model = nn.Sequential(conv(), norm(), nn.Sequential(norm(), nn.ReLU(), conv()), norm(), conv())
    blocks = names(model, blocks_of(model.children()))
    assert blocks == [["0", "1", "1.bias"], ["2.0", "2.0.bias", "2.2", "3", "3.bias"], ["4"]]


def test_bytes_become_what_a_model_was_trained_on():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).expand(1, 3, 1, 3)
    normalized = Normalize([0.5, 0.0, 0.2], [0.5, 1.0, 0.1])(pixels)[0, :, 0]
    assert_close(normalized, [[-1.0, -0.6, 1.0], [0.0, 0.2, 1.0], [-2.0, 0.0, 8.0]], "float32")
    assert Normalize([0.5] * 3, [0.5] * 3).half()(pixels).dtype == torch.float16
    assert not Normalize([0.5] * 3, [0.5] * 3).state_dict()
