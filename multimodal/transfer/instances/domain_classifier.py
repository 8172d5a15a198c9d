"""Telling source from target records, each by a classifier that has not seen it. Never imports torch."""

from typing import NamedTuple

import numpy as np

from multimodal.transfer.checks import check_pair
from multimodal.transfer.folds import each_fold, repeated_folds
from multimodal.transfer.maps.pca import fit_pca
from multimodal.transfer.maps.standardise import fit_standardise
from multimodal.transfer.probes.logistic import fit_softmax

DOMAIN_L2 = 1e-3


class DomainLogOdds(NamedTuple):
    """log p_target(x) / p_source(x) as a classifier sees it; above zero looks more like the target."""

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
    """Held-out log odds of a logistic regression in which both domains weigh alike, so that they need no correction.

    Bickel et al. (2007, https://doi.org/10.1145/1273496.1273507), cross-fitted: of records that it was fitted to, a
    classifier is too sure.

    When not to use: with fewer records than features in a domain.

    Args:
        source: [n d].
        target: [m d].
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
