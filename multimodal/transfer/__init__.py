"""Transfer methods: strategies return plans (data), the trainer carries them out."""

from multimodal.transfer.plan import EncoderPolicy, OptimizerSpec, ParamGroup, Phase, TransferStrategy, check_plan
from multimodal.transfer.strategies import Finetune, LinearProbe, ProbeThenFinetune

__all__ = [
    "EncoderPolicy",
    "Finetune",
    "LinearProbe",
    "OptimizerSpec",
    "ParamGroup",
    "Phase",
    "ProbeThenFinetune",
    "TransferStrategy",
    "check_plan",
]
