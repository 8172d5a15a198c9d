"""Losses that bring source and target together without target labels. Pure functions; no method sees a label."""

from multimodal.transfer.adaptation.cdan import RandomMultilinearMap, cdan_loss, multilinear_map
from multimodal.transfer.adaptation.dann import DomainDiscriminator, dann_loss
from multimodal.transfer.adaptation.deep_coral import deep_coral_loss
from multimodal.transfer.adaptation.entropy import entropy_loss
from multimodal.transfer.adaptation.gradient_reversal import reversal_scale, reverse_gradient
from multimodal.transfer.adaptation.mcc import mcc_loss
from multimodal.transfer.adaptation.mmd import linear_mmd, median_bandwidth, mmd_loss, unbiased_mmd
from multimodal.transfer.adaptation.pseudo_labels import pseudo_label_loss

__all__ = [
    "DomainDiscriminator",
    "RandomMultilinearMap",
    "cdan_loss",
    "dann_loss",
    "deep_coral_loss",
    "entropy_loss",
    "linear_mmd",
    "mcc_loss",
    "median_bandwidth",
    "mmd_loss",
    "multilinear_map",
    "pseudo_label_loss",
    "reversal_scale",
    "reverse_gradient",
    "unbiased_mmd",
]
