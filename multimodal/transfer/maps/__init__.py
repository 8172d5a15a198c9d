"""Maps of features, of one domain or from two into one space; all of them are affine and fold into a linear head."""

from multimodal.transfer.maps.affine import AffineMap, DomainMaps, identity
from multimodal.transfer.maps.coral import fit_coral
from multimodal.transfer.maps.easy_adapt import easy_adapt
from multimodal.transfer.maps.pca import fit_pca
from multimodal.transfer.maps.procrustes import fit_procrustes
from multimodal.transfer.maps.ridge import fit_ridge_map
from multimodal.transfer.maps.span import fit_span
from multimodal.transfer.maps.standardise import fit_domain_standardise, fit_standardise
from multimodal.transfer.maps.subspace_alignment import fit_subspace_alignment

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
