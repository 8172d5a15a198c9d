"""Maps of features, of one domain or from two into one space; all of them are affine and fold into a linear head."""

from multimodal.transfer.maps.affine import AffineMap, DomainMaps, identity
from multimodal.transfer.maps.domain import (
    fit_coral,
    fit_standardise,
    fit_subspace_alignment,
)
from multimodal.transfer.maps.pca import fit_pca, fit_span

__all__ = [
    "AffineMap",
    "DomainMaps",
    "fit_coral",
    "fit_pca",
    "fit_span",
    "fit_standardise",
    "fit_subspace_alignment",
    "identity",
]
