"""The span of the training records: fewer dimensions, the same linear probe. Never imports torch."""

import numpy as np

from multimodal.transfer.checks import check_features
from multimodal.transfer.maps.affine import AffineMap, identity


def fit_span(features: np.ndarray) -> AffineMap:
    """x -> its coordinates in an orthonormal basis of what the rows span; the identity with as many rows as features.

    The weights of any linear model with an L2 penalty are sums of its training rows (the representer theorem,
    Kimeldorf and Wahba, 1971, https://doi.org/10.1016/0022-247X(71)90184-3), so that a probe on the
    coordinates is the one on the features, at the price of n dimensions.

    When not to use: with other penalties, or an anchor that lies outside the span.

    Args:
        features: of the training records, [n d]; centred, where the model has a free bias.

    >>> fit_span(np.array([[3.0, 4.0]])).transform(np.array([[3.0, 4.0], [6.0, 8.0]])).round(6)
    array([[ 5.],
           [10.]])
    """
    features = check_features(features)
    n, d = features.shape
    if d <= n:
        return identity(d)
    values, vectors = np.linalg.eigh(features @ features.T)
    kept = values > max(values[-1], 0.0) * n * np.finfo(np.float64).eps
    basis = features.T @ vectors[:, kept] / np.sqrt(values[kept])  # [d k]
    return AffineMap(basis, np.zeros(basis.shape[1]))
