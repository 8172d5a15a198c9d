"""Mean zero and variance one, for all records or for each domain by itself. Never imports torch."""

import numpy as np

from multimodal.transfer.checks import check_features, check_pair, check_row_weights
from multimodal.transfer.maps.affine import AffineMap, DomainMaps


def fit_standardise(features: np.ndarray, *, weights: np.ndarray | None = None) -> AffineMap:
    """x -> (x - mean) / deviation; a feature that never varies becomes zero.

    When not to use: where the scale of a feature says how much it matters.

    Args:
        features: [n d].
        weights: of each record, [n]; None weighs all alike.
    """
    features = check_features(features)
    shares = check_row_weights(weights, len(features)) / len(features)
    mean = shares @ features
    deviation = np.sqrt(shares @ (features - mean) ** 2)
    # what is constant but for rounding must not be blown up to noise of variance one
    varies = deviation > 1e-12 * np.maximum(1.0, np.abs(mean))
    factors = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)
    return AffineMap(factors, -mean * factors)


def fit_domain_standardise(source: np.ndarray, target: np.ndarray) -> DomainMaps:
    """Each domain with its own mean and deviation, the target's from unlabelled records.

    The feature-space form of adaptive batch normalisation (Li et al., 2016, https://arxiv.org/abs/1603.04779).

    When not to use: with fewer than about 100 target records, or where the classes are mixed in other shares there:
    it then takes a shift of the classes for one of the features.

    Args:
        source: [n d].
        target: [m d].
    """
    source, target = check_pair(source, target)
    return DomainMaps(fit_standardise(source), fit_standardise(target))
