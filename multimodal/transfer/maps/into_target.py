"""Maps of source features onto target features, which stay unchanged. Never imports torch."""

from typing import Literal

import numpy as np

from multimodal.transfer.checks import check_pair
from multimodal.transfer.maps.affine import AffineMap, DomainMaps, identity
from multimodal.transfer.maps.domain import fit_coral, fit_standardise, fit_subspace_alignment

Method = Literal["coral", "standardise", "subspace_alignment"]


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
