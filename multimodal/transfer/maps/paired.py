"""Affine maps between two encoders' features of the same records."""

import numpy as np

from multimodal.transfer.checks import check_features
from multimodal.transfer.maps.affine import AffineMap


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


def fit_ridge_map(source: np.ndarray, target: np.ndarray, *, l2: float = 1e-2) -> AffineMap:
    """x -> (x - mean_s) A + mean_t with A = (X'X/n + l2 I)^-1 X'Y/n on centred anchors.

    Hoerl and Kennard (1970, https://doi.org/10.1080/00401706.1970.10488634).

    When not to use: where lengths matter: with few anchors it draws everything to the mean. Where the spaces differ
    by a rotation, ``fit_procrustes`` needs fewer.

    Args:
        source: features of the anchors in one space, [n d].
        target: of the same records in the other, [n k].
        l2: on the scale of the source features' variance.

    Raises:
        ValueError: if they are not pairs, or the penalty is not above 0.
    """
    source, target = check_anchors(source, target)
    if not l2 > 0:
        raise ValueError(f"l2 is {l2}; give a number above 0, 0.01 for standardised features")
    means = source.mean(axis=0), target.mean(axis=0)
    x, y = source - means[0], target - means[1]
    n, d = x.shape
    matrix = np.linalg.solve(x.T @ x / n + l2 * np.eye(d), x.T @ y / n)
    return AffineMap(matrix, means[1] - means[0] @ matrix)


def check_anchors(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of features as float64.

    Raises:
        ValueError: if there is not one row of both a record.
    """
    source, target = check_features(source, "source anchors"), check_features(target, "target anchors")
    if len(source) != len(target):
        raise ValueError(f"there are {len(source)} source and {len(target)} target anchors; give pairs, row by row")
    return source, target
