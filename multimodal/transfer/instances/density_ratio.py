"""Weights that make source records look like the target. Never imports torch."""

import logging
from dataclasses import dataclass

import numpy as np

from multimodal.transfer.instances.domain_classifier import DOMAIN_L2, domain_log_odds
from multimodal.transfer.instances.effective_size import effective_size

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SourceWeights:
    """One weight a source record, mean 1."""

    weights: np.ndarray
    """[n]."""
    effective_size: float
    """As many records alike would say as much."""
    log_ratio: np.ndarray
    """log p_target / p_source as it was estimated, before flattening and clipping, [n]."""


def density_ratio_weights(
    source: np.ndarray,
    target: np.ndarray,
    *,
    flatten: float = 0.5,
    clip: float = 10.0,
    components: int | None = 64,
    l2: float = DOMAIN_L2,
    folds: int = 5,
    seed: int = 0,
) -> SourceWeights:
    """p_target(x) / p_source(x) from a cross-fitted domain classifier, flattened, clipped, scaled to mean 1.

    Bickel et al. (2007, https://doi.org/10.1145/1273496.1273507); flattening: Sugiyama et al. (2007,
    https://jmlr.org/papers/v8/sugiyama07a.html). Logs a warning where the weights leave less than a tenth of the
    records.

    When not to use: where the domains hardly overlap, or the same features have other labels in the target.

    Args:
        source: [n d].
        target: [m d].
        flatten: exponent, 0 (no weights) to 1 (the ratio itself).
        clip: largest weight, in means.
        components, l2, folds, seed: of the domain classifier.

    Raises:
        ValueError: if an argument is out of range, or a domain has fewer records than folds.
    """
    if not 0.0 <= flatten <= 1.0 or not clip > 1.0:
        raise ValueError(f"flatten is {flatten} and clip {clip}; give flatten in 0..1 and clip above 1 (inf: no clip)")
    odds = domain_log_odds(source, target, components=components, l2=l2, folds=folds, seed=seed)
    weights = np.exp(flatten * (odds.source - odds.source.max()))  # of any scale: no overflow
    weights = np.minimum(weights, clip * weights.mean())
    weights = weights / weights.mean()
    size = effective_size(weights)
    if size < 0.1 * len(weights):
        _log.warning(
            "%d source records weigh like %.0f: the domains hardly overlap; lower flatten, or leave the weights out",
            len(weights),
            size,
        )
    return SourceWeights(weights, size, odds.source)
