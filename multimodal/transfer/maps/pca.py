"""Maps to fewer dimensions: principal components, the span of the features."""

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


def fit_pca(features: np.ndarray, components: int, *, whiten: bool = False) -> AffineMap:
    """x -> (x - mean) V, the directions of largest variance first; whitened: each with variance one.

    Hotelling (1933). The largest entry of each direction is positive, so that the map is the same on every machine.
    For use between domains fit it to the records of both, without labels.

    When not to use: where what matters varies little; whitened, where the last components are noise.

    Args:
        features: [n d].
        components: k, at most n - 1 and d.

    Raises:
        ValueError: if there are not as many components with any variance.
    """
    from sklearn.decomposition import PCA

    features = check_features(features)
    most = min(len(features) - 1, features.shape[1])
    if not 1 <= components <= most:
        raise ValueError(f"components is {components}; {list(features.shape)} features have 1 to {most}")
    fitted = PCA(components, svd_solver="full").fit(features)
    directions, deviations = fitted.components_, np.sqrt(fitted.explained_variance_)
    if whiten:
        if deviations[-1] <= 1e-10 * deviations[0]:
            kept = int((deviations > 1e-10 * deviations[0]).sum())
            raise ValueError(f"only {kept} of {components} components vary at all; give components={kept} to whiten")
        directions = directions / deviations[:, None]
    return AffineMap(directions.T, -directions @ fitted.mean_)
