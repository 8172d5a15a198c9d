"""Transfer methods: strategies return plans (data), the trainer carries them out."""

from multimodal.transfer.gradual_unfreezing import GradualUnfreezing
from multimodal.transfer.layerwise_decay import LayerwiseDecay
from multimodal.transfer.lora import Lora
from multimodal.transfer.norm_and_bias import NormAndBias
from multimodal.transfer.partial import Partial
from multimodal.transfer.plan import EncoderPolicy, OptimizerSpec, ParamGroup, Phase, TransferStrategy, check_plan
from multimodal.transfer.strategies import Finetune, LinearProbe, ProbeThenFinetune, TrainNothing
from multimodal.transfer.two_phase import TwoPhase

__all__ = [
    "EncoderPolicy",
    "Finetune",
    "GradualUnfreezing",
    "LayerwiseDecay",
    "LinearProbe",
    "Lora",
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
