import numpy as np
import pytest
from scipy.ndimage import rotate
from sklearn.datasets import make_moons
from sklearn.decomposition import PCA
from support.assertions import assert_close, near
from support.digits import digits, halves

from multimodal.transfer.maps.affine import DomainMaps
from multimodal.transfer.maps.domain import fit_coral, fit_subspace_alignment
from multimodal.transfer.maps.pca import fit_pca
from multimodal.transfer.probes.logistic import fit_softmax

PIXELS, LABELS = digits()
SOURCE, TARGET = halves()
RNG = np.random.default_rng(0)


def accuracy(maps: DomainMaps | None, source: np.ndarray, target: np.ndarray) -> float:
    """Of a classifier trained on the mapped source, folded for the target."""
    mapped = source if maps is None else maps.source.transform(source)
    probe = fit_softmax(mapped, LABELS[SOURCE], l2=1e-3)
    folded = probe if maps is None else probe.after(maps.target)
    return float(np.mean(folded.predict(target) == LABELS[TARGET]))


def turned(rows: np.ndarray, degrees: float) -> np.ndarray:
    images = PIXELS[rows].reshape(-1, 8, 8)
    return np.stack([rotate(image, degrees, reshape=False, order=1) for image in images]).reshape(-1, 64)


# --- PCA ---------------------------------------------------------------------------------------------------------


def test_components_are_orthonormal_and_scikit_learns():
    ours, theirs = fit_pca(PIXELS, 20), PCA(20, svd_solver="full").fit(PIXELS)
    assert np.abs(ours.matrix.T @ ours.matrix - np.eye(20)).max() < 1e-8
    signs = np.sign((ours.matrix * theirs.components_.T).sum(axis=0))
    assert_close(ours.transform(PIXELS), theirs.transform(PIXELS) * signs, "float32")


def test_at_full_rank_nothing_is_lost_and_signs_are_fixed():
    rows = RNG.normal(size=(30, 6))
    ours = fit_pca(rows, 6)
    assert_close(ours.transform(rows) @ ours.matrix.T + rows.mean(axis=0), rows, "float64")
    assert_close(fit_pca(rows[::-1], 6).matrix, ours.matrix, "float32")
    assert (ours.matrix[np.abs(ours.matrix).argmax(axis=0), np.arange(6)] > 0).all()


def test_whitened_components_have_the_identity_as_covariance():
    mapped = fit_pca(PIXELS, 20, whiten=True).transform(PIXELS)
    assert_close(np.cov(mapped, rowvar=False), np.eye(20), "float32")


def test_what_does_not_vary_cannot_be_whitened():
    flat = np.column_stack([RNG.normal(size=20), np.zeros(20)])
    with pytest.raises(ValueError, match="give components=1 to whiten"):
        fit_pca(flat, 2, whiten=True)
    with pytest.raises(ValueError, match="have 1 to 2"):
        fit_pca(flat, 3)


# --- CORAL -------------------------------------------------------------------------------------------------------


def test_without_shrinkage_the_covariance_and_the_mean_are_the_targets():
    source, target = RNG.normal(size=(200, 5)), RNG.normal(size=(150, 5)) @ RNG.normal(size=(5, 5)) + 2.0
    mapped = fit_coral(source, target, shrinkage=0.0).source.transform(source)
    assert np.abs(np.cov(mapped, rowvar=False) - np.cov(target, rowvar=False)).max() < 1e-8
    assert_close(mapped.mean(axis=0), target.mean(axis=0), "float32")


def test_equal_covariances_change_nothing():
    source = RNG.normal(size=(200, 5))
    assert_close(fit_coral(source, source[::-1]).source.transform(source), source, "float32")


def test_on_two_moons_it_is_the_published_figure():
    """ADAPT's two-moons example prints 0.170768 -> 0.000000."""
    source = make_moons(100, noise=0.05, random_state=0)[0] - 0.5
    angle = np.pi / 6
    target = source @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    covariance = np.cov(target, rowvar=False)
    assert np.abs(np.cov(source, rowvar=False) - covariance).mean() == near(0.170768, "six digits")
    mapped = fit_coral(source, target, shrinkage=0.0).source.transform(source)
    assert np.abs(np.cov(mapped, rowvar=False) - covariance).mean() < 1e-12


def test_it_helps_with_a_rotation_and_not_at_all_with_inversion():
    source, target = PIXELS[SOURCE], turned(TARGET, 20)
    assert accuracy(fit_coral(source, target), source, target) > accuracy(None, source, target) + 0.05
    inverted = 1.0 - PIXELS[TARGET]
    assert accuracy(fit_coral(source, inverted), source, inverted) < 0.05


def test_flat_directions_need_shrinkage():
    flat = np.column_stack([RNG.normal(size=20), np.zeros(20)])
    with pytest.raises(ValueError, match="shrinkage above 0"):
        fit_coral(flat, flat, shrinkage=0.0)
    assert np.isfinite(fit_coral(flat, flat, shrinkage=0.1).source.matrix).all()
    with pytest.raises(ValueError, match="0 or more"):
        fit_coral(flat, flat, shrinkage=-1.0)
    with pytest.raises(ValueError, match="no covariance"):
        fit_coral(flat[:1], flat)


# --- subspace alignment ------------------------------------------------------------------------------------------


def test_without_a_shift_alignment_is_pca():
    maps = fit_subspace_alignment(PIXELS, PIXELS, 20)
    assert_close(maps.source.transform(PIXELS), fit_pca(PIXELS, 20).transform(PIXELS), "float32")


def test_alignment_helps_with_a_rotation_and_costs_without():
    source, target = PIXELS[SOURCE], turned(TARGET, 20)
    assert accuracy(fit_subspace_alignment(source, target, 20), source, target) > accuracy(None, source, target) + 0.05
    plain = PIXELS[TARGET]
    assert accuracy(fit_subspace_alignment(source, plain, 20), source, plain) < accuracy(None, source, plain)
