"""Penalties on weights and features, and ways to weigh classes and tasks. Pure functions and small modules."""

from multimodal.transfer.objectives.feature_distillation import channel_attention, feature_distillation
from multimodal.transfer.objectives.l2_sp import l2_sp_penalty
from multimodal.transfer.objectives.logit_adjustment import adjust_bias, adjusted_logits
from multimodal.transfer.objectives.pcgrad import gradient_cosines, project_conflicts
from multimodal.transfer.objectives.uncertainty import UncertaintyWeighting

__all__ = [
    "UncertaintyWeighting",
    "adjust_bias",
    "adjusted_logits",
    "channel_attention",
    "feature_distillation",
    "gradient_cosines",
    "l2_sp_penalty",
    "project_conflicts",
]
