"""Which source records to use, and how much each of them counts."""

from multimodal.transfer.instances.density_ratio import (
    DomainLogOdds,
    SourceWeights,
    density_ratio_weights,
    domain_log_odds,
    effective_size,
)
from multimodal.transfer.instances.kernel_mean_matching import kernel_mean_matching
from multimodal.transfer.instances.source_weight import SourceWeight, choose_source_weight, fit_with_source

__all__ = [
    "DomainLogOdds",
    "SourceWeight",
    "SourceWeights",
    "choose_source_weight",
    "density_ratio_weights",
    "domain_log_odds",
    "effective_size",
    "fit_with_source",
    "kernel_mean_matching",
]
