"""Maps of features, of one domain or from two into one space; all of them are affine and fold into a linear head."""

from multimodal.transfer.maps.affine import AffineMap, DomainMaps, identity
from multimodal.transfer.maps.domain import (
    easy_adapt,
    fit_coral,
    fit_domain_standardise,
    fit_standardise,
    fit_subspace_alignment,
)
from multimodal.transfer.maps.paired import fit_procrustes, fit_ridge_map
from multimodal.transfer.maps.pca import fit_pca, fit_span

__all__ = [
    "AffineMap",
    "DomainMaps",
    "easy_adapt",
    "fit_coral",
    "fit_domain_standardise",
    "fit_pca",
    "fit_procrustes",
    "fit_ridge_map",
    "fit_span",
    "fit_standardise",
    "fit_subspace_alignment",
    "identity",
]
