"""Scores that rank encoders, or models, before anything is trained. Ranking aids, to be shown beside a probe."""

from multimodal.transfer.selection.scores import leep, logme, negative_conditional_entropy, proxy_a_distance
from multimodal.transfer.selection.validators import UnlabelledScore, importance_weighted_risk, target_entropy

__all__ = [
    "UnlabelledScore",
    "importance_weighted_risk",
    "leep",
    "logme",
    "negative_conditional_entropy",
    "proxy_a_distance",
    "target_entropy",
]
