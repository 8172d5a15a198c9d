"""The contract of strategies: every one of the registry keeps it, and each broken promise is named."""

from dataclasses import dataclass, field, replace

import pytest
from torch import nn

from encoders.contract import ContractError
from multimodal.plugins import STRATEGIES
from multimodal.transfer.plan import EncoderPolicy, ParamGroup, Phase, TransferStrategy
from multimodal.transfer.strategies import Finetune
from multimodal.transfer.testing import check_strategy


@pytest.mark.parametrize("name", STRATEGIES.built_in)
def test_every_strategy_keeps_its_promises(name):
    if name == "lora":
        pytest.importorskip("peft")
    check_strategy(STRATEGIES.load(name))


@dataclass(frozen=True)
class Part(TransferStrategy):
    """Fine-tuning; the parts below break one promise each."""

    policy: EncoderPolicy = field(default_factory=EncoderPolicy)

    def plan(self, model, epochs):
        return Finetune(self.policy).plan(model, epochs)


class TooLong(Part):
    def plan(self, model, epochs):
        return super().plan(model, epochs + 1)


class Unknown(Part):
    def plan(self, model, epochs):
        return [Phase("all", epochs, (ParamGroup("all", ("no.such.weight",)),))]


class Twice(Part):
    def plan(self, model, epochs):
        (phase,) = super().plan(model, epochs)
        return [replace(phase, groups=(*phase.groups, phase.groups[0]))]


class Thaws(Part):
    def plan(self, model, epochs):
        return Finetune().plan(model, epochs)


class Changes(Part):
    def plan(self, model, epochs):
        next(model.parameters()).data.add_(1.0)
        return super().plan(model, epochs)


class Leaves(Part):
    def prepare(self, model):
        model.extra = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (TooLong, "plans phases that 1 epochs can carry out: ValueError: the strategy planned 2 epochs"),
        (Unknown, "plans phases that 1 epochs can carry out: ValueError: phase 'all' trains 1 parameters, .*no.such"),
        (Twice, "plans phases that 1 epochs can carry out: ValueError: .*twice"),
        (Thaws, r"trains no encoder that policy.frozen names: encoders\.back.*; use encoder_groups"),
        (Changes, "leaves the model as it is in plan: change it in prepare, and back in finish"),
        (Leaves, "gives the model back with the tensors that it had: .* take out in finish what prepare added"),
        (lambda policy: 3, r"int breaks the promise that a strategy is a mm\.TransferStrategy: subclass it"),
    ],
)
def test_a_broken_promise_is_named_with_what_to_do(broken, promise):
    with pytest.raises(ContractError, match=promise):
        check_strategy(broken)
