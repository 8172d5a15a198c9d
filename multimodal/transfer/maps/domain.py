"""Affine maps from the source domain to the target domain."""

from typing import Literal

import numpy as np

from multimodal.transfer.checks import check_features, check_pair, check_row_weights
from multimodal.transfer.maps.affine import AffineMap, DomainMaps, identity
from multimodal.transfer.maps.pca import fit_pca

Method = Literal["coral", "standardise", "subspace_alignment"]


def fit_standardise(features: np.ndarray, *, weights: np.ndarray | None = None) -> AffineMap:
    """x -> (x - mean) / deviation; a feature that never varies becomes zero.

    When not to use: where the scale of a feature says how much it matters.

    Args:
        features: [n d].
        weights: of each record, [n]; None: equal weights.
    """
    features = check_features(features)
    shares = check_row_weights(weights, len(features)) / len(features)
    mean = shares @ features
    deviation = np.sqrt(shares @ (features - mean) ** 2)
    # what is constant but for rounding must not be blown up to noise of variance one
    varies = deviation > 1e-12 * np.maximum(1.0, np.abs(mean))
    factors = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)
    return AffineMap(factors, -mean * factors)


def fit_coral(source: np.ndarray, target: np.ndarray, *, shrinkage: float = 0.1) -> DomainMaps:
    """x -> (x - mean_s) (C_s + l I)^(-1/2) (C_t + l I)^(1/2) + mean_t for the source; the target stays as it is.

    Sun, Feng and Saenko (2016, https://arxiv.org/abs/1511.05547). Ours differs: the means are matched as well, and
    roots are taken of eigenvalues, which are real. A model trained on the mapped source takes target features as they
    come.

    When not to use: without a shift, where it costs a little; where labels and features do not go together in the
    target as in the source: covariances agree then, too (digits inverted: accuracy .000 with and without it,
    benchmarks/transfer.md).

    Args:
        source, target: [n d] and [m d].
        shrinkage: l, on the scale of the features' variance: standardise first. Above 0 with fewer records than
            features.

    Raises:
        ValueError: if the shrinkage is negative, or 0 where a source covariance has no inverse.
    """
    source, target = check_pair(source, target)
    if shrinkage < 0:
        raise ValueError(f"shrinkage is {shrinkage}; give 0 or more, 0.1 for standardised features")
    matrix = _power(_covariance(source, shrinkage), -0.5) @ _power(_covariance(target, shrinkage), 0.5)
    offset = target.mean(axis=0) - source.mean(axis=0) @ matrix
    return DomainMaps(AffineMap(matrix, offset), identity(source.shape[1]))


def _covariance(features: np.ndarray, shrinkage: float) -> np.ndarray:
    if len(features) < 2:
        raise ValueError("a domain has a single record, which has no covariance; give more")
    return np.atleast_2d(np.cov(features, rowvar=False)) + shrinkage * np.eye(features.shape[1])


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """Of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    if exponent < 0 and values[0] <= 1e-12 * values[-1]:
        raise ValueError("the source features do not vary in every direction; give a shrinkage above 0, such as 0.1")
    return (vectors * np.maximum(values, 0.0) ** exponent) @ vectors.T


def fit_subspace_alignment(source: np.ndarray, target: np.ndarray, components: int) -> DomainMaps:
    """Source: (x - mean_s) P_s P_s' P_t; target: (x - mean_t) P_t, with the first components P of each domain.

    Fernando et al. (2013, https://doi.org/10.1109/ICCV.2013.368).

    When not to use: without a shift (it costs the components left out), or where the domains differ in mean alone.

    Args:
        source, target: [n d] and [m d].
        components: k; 20 is a fair start for 64 features.

    Raises:
        ValueError: if a domain does not have as many components.
    """
    source, target = check_pair(source, target)
    own, common = fit_pca(source, components), fit_pca(target, components)
    turn = AffineMap(own.matrix.T @ common.matrix, np.zeros(components))
    return DomainMaps(own.then(turn), common)


def fit_into_target(source: np.ndarray, target: np.ndarray, method: Method, *, components: int = 20) -> DomainMaps:
    """Source: S, then T's pseudo-inverse, for a method's maps S and T: a source record becomes a target record.

    Behind T both lie where the method puts them. Standardisation and CORAL leave the target as it is (T is the
    identity; the source takes the target's means and deviations instead of both losing theirs). CORAL sees features
    that were standardised over both domains, as its shrinkage wants, alignment each domain standardised by itself, as
    in its paper.

    Args:
        source, target: [n d] and [m d].
        components: of subspace alignment.
    """
    source, target = check_pair(source, target)
    if method == "standardise":
        return DomainMaps(fit_standardise(source).then(_scale_of(target)), identity(target.shape[1]))
    if method == "coral":
        both = np.concatenate([source, target])
        scaled = fit_standardise(both)
        coral = fit_coral(scaled.transform(source), scaled.transform(target))
        return DomainMaps(scaled.then(coral.source).then(_scale_of(both)), coral.target)
    own, common = fit_standardise(source), fit_standardise(target)
    aligned = fit_subspace_alignment(own.transform(source), common.transform(target), components)
    there = common.then(aligned.target)
    return DomainMaps(own.then(aligned.source).then(pseudo_inverse(there)), there)


def pseudo_inverse(given: AffineMap) -> AffineMap:
    """The smallest x that the map takes to what is given, where there is one.

    >>> narrow = AffineMap(np.array([[2.0], [0.0]]), np.ones(1))
    >>> pseudo_inverse(narrow).transform(np.array([[5.0]]))
    array([[2., 0.]])
    """
    matrix = np.linalg.pinv(np.diag(given.matrix) if given.matrix.ndim == 1 else given.matrix)
    return AffineMap(matrix, -given.offset @ matrix)


def _scale_of(features: np.ndarray) -> AffineMap:
    return AffineMap(features.std(axis=0), features.mean(axis=0))
