"""The proxy A-distance: how well a classifier tells two domains apart. Never imports torch."""

import numpy as np

from multimodal.transfer.instances.domain_classifier import DOMAIN_L2, domain_log_odds


def proxy_a_distance(
    source: np.ndarray,
    target: np.ndarray,
    *,
    components: int | None = 64,
    l2: float = DOMAIN_L2,
    folds: int = 5,
    seed: int = 0,
) -> float:
    """2 (1 - 2 e) of the held-out error e, in which both domains count alike: 0 alike, 2 told apart by all records.

    Ben-David et al. (2007, Analysis of representations for domain adaptation). Chance may take it below zero.

    When not to use: to foretell harm. On digits it is 1.9 for a blur that costs six points, and for a shift by a pixel
    that costs fifty (docs and figures: benchmarks/transfer.md).

    Args:
        source: [n d].
        target: [m d].
    """
    odds = domain_log_odds(source, target, components=components, l2=l2, folds=folds, seed=seed)
    error = (float(np.mean(odds.source >= 0)) + float(np.mean(odds.target < 0))) / 2
    return 2 * (1 - 2 * error)
