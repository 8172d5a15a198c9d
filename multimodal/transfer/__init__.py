"""Transfer methods: a strategy returns a plan as data, which the trainer executes."""

from multimodal.transfer.lora import LowRankAdaptation
from multimodal.transfer.plan import EncoderPolicy, OptimizerSpec, ParamGroup, Phase, TransferStrategy, check_plan
from multimodal.transfer.strategies import (
    Finetune,
    GradualUnfreezing,
    LayerwiseDecay,
    LinearProbe,
    NormAndBias,
    Partial,
    ProbeThenFinetune,
    TrainNothing,
    TwoPhase,
)

__all__ = [
    "EncoderPolicy",
    "Finetune",
    "GradualUnfreezing",
    "LayerwiseDecay",
    "LinearProbe",
    "LowRankAdaptation",
    "NormAndBias",
    "OptimizerSpec",
    "ParamGroup",
    "Partial",
    "Phase",
    "ProbeThenFinetune",
    "TrainNothing",
    "TransferStrategy",
    "TwoPhase",
    "check_plan",
]
