"""Procrustes: the rotation that takes anchors of one space to those of another. Never imports torch."""

import numpy as np

from multimodal.transfer.maps.affine import AffineMap
from multimodal.transfer.maps.ridge import check_anchors


def fit_procrustes(source: np.ndarray, target: np.ndarray, *, centred: bool = True) -> AffineMap:
    """x -> (x - mean_s) R + mean_t with the orthogonal R nearest to the anchors: U V' of the SVD of X_s' X_t.

    Schoenemann (1966, https://doi.org/10.1007/BF02289451); for embeddings: Smith et al. (2017,
    https://arxiv.org/abs/1702.03859).

    When not to use: between spaces of unlike geometry (two encoders of other training); with fewer anchors than
    features the rest of the rotation is arbitrary.

    Args:
        source, target: features of the same records in both spaces, [n d].
        centred: False rotates around zero, for features of length one.

    Raises:
        ValueError: if they are not pairs of one width.
    """
    source, target = check_anchors(source, target)
    if source.shape[1] != target.shape[1]:
        raise ValueError(
            f"a rotation keeps the width, but it goes from {source.shape[1]} to {target.shape[1]}; use fit_ridge_map"
        )
    zeros = np.zeros(source.shape[1])
    centres = (source.mean(axis=0), target.mean(axis=0)) if centred else (zeros, zeros)
    left, _, right = np.linalg.svd((source - centres[0]).T @ (target - centres[1]))
    return AffineMap(left @ right, centres[1] - centres[0] @ left @ right)
