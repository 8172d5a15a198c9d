"""Subspace alignment: turns the source's principal components into the target's. Never imports torch."""

import numpy as np

from multimodal.transfer.checks import check_pair
from multimodal.transfer.maps.affine import AffineMap, DomainMaps
from multimodal.transfer.maps.pca import fit_pca


def fit_subspace_alignment(source: np.ndarray, target: np.ndarray, components: int) -> DomainMaps:
    """Source: (x - mean_s) P_s P_s' P_t; target: (x - mean_t) P_t, with the first components P of each domain.

    Fernando et al. (2013, https://doi.org/10.1109/ICCV.2013.368).

    When not to use: without a shift (it costs the components left out), or where the domains differ in mean alone.

    Args:
        source: [n d].
        target: [m d].
        components: k; 20 is a fair start for 64 features.

    Raises:
        ValueError: if a domain does not have as many components.
    """
    source, target = check_pair(source, target)
    own, common = fit_pca(source, components), fit_pca(target, components)
    turn = AffineMap(own.matrix.T @ common.matrix, np.zeros(components))
    return DomainMaps(own.then(turn), common)
