"""Losses that bring source and target together without target labels. Pure functions; no method sees a label."""

from multimodal.transfer.adaptation.adversarial import (
    DomainDiscriminator,
    RandomMultilinearMap,
    cdan_loss,
    dann_loss,
    multilinear_map,
    reversal_scale,
    reverse_gradient,
)
from multimodal.transfer.adaptation.confidence import entropy_loss, mcc_loss, pseudo_label_loss
from multimodal.transfer.adaptation.distances import (
    deep_coral_loss,
    median_bandwidth,
    mmd_loss,
    unbiased_mmd,
)

__all__ = [
    "DomainDiscriminator",
    "RandomMultilinearMap",
    "cdan_loss",
    "dann_loss",
    "deep_coral_loss",
    "entropy_loss",
    "mcc_loss",
    "median_bandwidth",
    "mmd_loss",
    "multilinear_map",
    "pseudo_label_loss",
    "reversal_scale",
    "reverse_gradient",
    "unbiased_mmd",
]
