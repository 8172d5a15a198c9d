"""Weights of source records from unlabelled domains: density ratio, kernel mean matching."""

import logging
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from multimodal.metrics.intervals import effective_size
from multimodal.transfer.checks import check_pair
from multimodal.transfer.folds import each_fold, repeated_folds
from multimodal.transfer.maps.domain import fit_standardise
from multimodal.transfer.maps.pca import fit_pca
from multimodal.transfer.probes.logistic import fit_softmax

DOMAIN_L2 = 1e-3


class DomainLogOdds(NamedTuple):
    """log p_target(x) / p_source(x) by a classifier; above zero looks more like the target."""

    source: np.ndarray
    """Of the source records, [n]."""
    target: np.ndarray
    """Of the target records, [m]."""


def domain_log_odds(
    source: np.ndarray,
    target: np.ndarray,
    *,
    components: int | None = 64,
    l2: float = DOMAIN_L2,
    folds: int = 5,
    seed: int = 0,
) -> DomainLogOdds:
    """Held-out log odds of a logistic regression in which both domains have equal weight.

    Bickel et al. (2007, https://doi.org/10.1145/1273496.1273507), cross-fitted, since a classifier is
    overconfident on its own training records.

    When not to use: with fewer records than features in a domain.

    Args:
        source, target: [n d] and [m d].
        components: principal components of both that the classifier sees, as far as there are records for them; None,
            or more than d: the features.
        folds: fewer than records in either domain.

    Raises:
        ValueError: if a domain has fewer records than folds.
    """
    source, target = check_pair(source, target)
    if min(len(source), len(target)) < folds:
        raise ValueError(f"there are {len(source)} source and {len(target)} target records for {folds} folds; add some")
    features = np.concatenate([source, target])
    domains = np.repeat([0, 1], [len(source), len(target)])
    weights = np.repeat([1 / len(source), 1 / len(target)], [len(source), len(target)])
    scaling = fit_standardise(features, weights=weights)  # of both domains and without their names: nothing leaks
    features = scaling.transform(features)
    if components is not None and components < features.shape[1]:
        features = fit_pca(features, min(components, len(features) - 1)).transform(features)
    odds = np.empty(len(features))
    for fold in each_fold(repeated_folds(domains, folds=folds, seed=seed)):
        model = fit_softmax(
            features[fold.train], domains[fold.train], l2=l2, num_classes=2, row_weights=weights[fold.train]
        )
        odds[fold.test] = model.logits(features[fold.test]) @ np.array([-1.0, 1.0])
    return DomainLogOdds(odds[: len(source)], odds[len(source) :])


_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SourceWeights:
    """One weight per source record, mean 1."""

    weights: np.ndarray
    """[n]."""
    effective_size: float
    """Number of equally weighted records with as much information."""
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
        source, target: [n d] and [m d].
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
            "%d source records count like %.0f: the domains hardly overlap; lower flatten, or leave the weights out",
            len(weights),
            size,
        )
    return SourceWeights(weights, size, odds.source)


def kernel_mean_matching(
    source: np.ndarray, target: np.ndarray, *, bandwidth: float | None = None, most: float = 1000.0
) -> np.ndarray:
    """Weights [n] in 0..most that minimise |sum_i w_i phi(x_i) / n - mean phi(target)|^2 for a Gaussian kernel.

    Huang et al. (2006, Correcting sample selection bias by unlabeled data). Ours differs: bounds only; the paper's
    constraint on the mean of the weights is left out, since the optimum nearly meets it where domains overlap.

    When not to use: beyond some thousands of source records (the kernel is n x n), or in many dimensions, where all
    distances are alike; ``density_ratio_weights`` scales.

    Args:
        source, target: [n d] and [m d].
        bandwidth: s of exp(-|x - y|^2 / 2 s^2); None: the median distance between the domains.
        most: largest weight.

    Raises:
        ValueError: if the bandwidth or the bound is not above 0.
    """
    from scipy.optimize import minimize
    from scipy.spatial.distance import cdist

    source, target = check_pair(source, target)
    between = cdist(source, target, "sqeuclidean")
    scale = 2.0 * (float(np.median(between)) if bandwidth is None else bandwidth**2)
    if not scale > 0 or not most > 0:
        raise ValueError(f"bandwidth is {bandwidth} and most {most}; give both above 0 (or bandwidth None)")
    n = len(source)
    kernel = np.exp(-cdist(source, source, "sqeuclidean") / scale)
    wanted = np.exp(-between / scale).mean(axis=1) * n

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        slopes = kernel @ weights - wanted
        return float(weights @ (slopes - wanted)) / 2, slopes

    options = {"maxiter": 5000, "maxfun": 100_000, "ftol": 1e-14, "gtol": 1e-9}
    found = minimize(objective, np.ones(n), jac=True, method="L-BFGS-B", bounds=[(0.0, most)] * n, options=options)
    return found.x
