"""The contract of fusions: every one of the registry keeps it, and each broken promise is named."""

import pytest
import torch
from torch import nn

from encoders.contract import ContractError
from fusion import FusionModule
from fusion.base import masked_mean
from fusion.concat import ConcatFusion
from fusion.names import NamedModules
from fusion.registry import FUSIONS
from fusion.testing import check_fusion


@pytest.mark.parametrize("name", FUSIONS.built_in)
def test_every_fusion_keeps_its_promises(name):
    check_fusion(FUSIONS.load(name))


def test_a_projected_concatenation_keeps_its_promises():
    check_fusion(lambda in_dims: ConcatFusion(in_dims, 8))


class Sum(FusionModule):
    """Sum of the projected mean tokens; the parts below break one promise each."""

    uses_mean_token_only = True

    def __init__(self, in_dims):
        super().__init__(in_dims)
        self.out_dim = 4
        self.embed = NamedModules({name: nn.Linear(dim, 4) for name, dim in in_dims.items()})

    def fuse(self, tokens, masks):
        return sum(self.embed[name](masked_mean(tokens[name], masks[name])) for name in self.in_dims)


class Wide(Sum):
    def fuse(self, tokens, masks):
        return torch.cat([super().fuse(tokens, masks)] * 2, dim=1)


class Mixed(Sum):
    def fuse(self, tokens, masks):
        fused = super().fuse(tokens, masks)
        return fused - fused.mean(dim=0)


class Unmasked(Sum):
    def fuse(self, tokens, masks):
        return super().fuse(tokens, {name: torch.ones_like(mask) for name, mask in masks.items()})


class Longest(Sum):
    def fuse(self, tokens, masks):
        real = {name: tokens[name].masked_fill(~masks[name][..., None], -9.0) for name in tokens}
        largest = {name: values.amax(dim=1, keepdim=True) for name, values in real.items()}
        return super().fuse(largest, {name: mask.any(dim=1, keepdim=True) for name, mask in masks.items()})


class Zeros(Sum):
    def fill_missing(self, name, tokens, mask):
        filled, mask_of_filled = super().fill_missing(name, tokens, mask)
        return filled * mask.any(dim=1)[:, None, None], mask_of_filled


class Idle(Sum):
    def __init__(self, in_dims):
        super().__init__(in_dims)
        self.idle = nn.Linear(2, 2)


class Forgetful(Sum):
    def __init__(self, in_dims):
        super().__init__(in_dims)
        self.scale = torch.rand(4)

    def fuse(self, tokens, masks):
        return super().fuse(tokens, masks) * self.scale


class Constant(Sum):
    def fuse(self, tokens, masks):
        return super().fuse(tokens, masks) * 0.0


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (Wide, r"returns one float vector \[b f\] per record: torch.float32 \[4, 8\] for 4 records and out_dim 4"),
        (Constant, "returns a vector that depends on the record"),
        (Mixed, "fuses each record by itself: off by .*; a record's vector changed with its batch"),
        (Unmasked, "gives the same vector whatever the padding: off by .*; padding changed the vector; mask attention"),
        (Longest, "looks at mean tokens only where it says so: .* set uses_mean_token_only = False"),
        (Zeros, "puts the learned token where an input is missing: .* override `fuse`, not `forward`"),
        (Idle, "gives every parameter a gradient: idle.weight, idle.bias without"),
        (Forgetful, "is the same after saving and loading: .* not in the state_dict"),
        (lambda in_dims: nn.Linear(2, 2), r"Linear breaks the promise that a fusion is a fusion\.FusionModule"),
        (lambda in_dims: 1 / 0, "is built of in_dims, here of 1 inputs: ZeroDivisionError"),
    ],
)
def test_a_broken_promise_is_named_with_what_to_do(broken, promise):
    with pytest.raises(ContractError, match=promise):
        check_fusion(broken, export=False)


class Shifted(Sum):
    def fuse(self, tokens, masks):
        return super().fuse(tokens, masks) + float(torch.compiler.is_exporting())


def test_a_graph_that_gives_another_vector_is_named():
    with pytest.raises(ContractError, match="the same vector as an ONNX graph: off by up to 1; at batch 1; mind data"):
        check_fusion(Shifted)
