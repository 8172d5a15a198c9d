import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from support.assertions import assert_close
from support.digits import digits, halves

from multimodal.transfer.maps.affine import AffineMap, identity
from multimodal.transfer.maps.domain import fit_into_target, fit_standardise
from multimodal.transfer.probes.logistic import fit_softmax

PIXELS, LABELS = digits()
SOURCE, TARGET = halves()
RNG = np.random.default_rng(0)


def random_map(*shape: int) -> AffineMap:
    return AffineMap(RNG.normal(size=shape), RNG.normal(size=shape[-1]))


@pytest.mark.parametrize("shapes", [((5, 4), (4, 3)), ((4,), (4, 3)), ((5, 4), (4,)), ((4,), (4,))])
def test_two_maps_in_one_and_a_layer_behind_them(shapes):
    first, second = (random_map(*shape) for shape in shapes)
    x = RNG.normal(size=(7, shapes[0][0]))
    assert_close(first.then(second).transform(x), second.transform(first.transform(x)), "float64")
    weights, bias = RNG.normal(size=(2, 4)), RNG.normal(size=2)
    folded, shifted = first.fold(weights, bias)
    assert_close(x @ folded.T + shifted, first.transform(x) @ weights.T + bias, "float64")
    assert_close(identity(x.shape[1]).transform(x), x, "float64")


def test_another_dim_is_refused():
    with pytest.raises(ValueError, match="fitted to 5"):
        identity(5).transform(np.ones((2, 4)))


def test_standardising_is_scikit_learns_and_leaves_no_noise_of_constants():
    constant = np.column_stack([PIXELS, np.full(len(PIXELS), 0.1)])
    mapped = fit_standardise(constant).transform(constant)
    assert_close(mapped, StandardScaler().fit_transform(constant), "float32")
    assert not mapped[:, -1].any()


def test_standardising_each_domain_undoes_a_change_of_contrast():
    source, target = PIXELS[SOURCE], 0.3 * PIXELS[TARGET] + 0.5
    before = fit_softmax(source, LABELS[SOURCE], l2=1e-3)
    maps = fit_into_target(source, target, "standardise")
    after = fit_softmax(maps.source.transform(source), LABELS[SOURCE], l2=1e-5).after(maps.target)  # small variances
    assert np.mean(before.predict(target) == LABELS[TARGET]) < 0.85
    assert np.mean(after.predict(target) == LABELS[TARGET]) > 0.95


def test_other_shares_of_the_classes_mislead_it():
    """Two classes, no shift of any feature, but the target has mostly the second: standardising centres it away."""
    labels = np.repeat([0, 1], [500, 500])
    source = RNG.normal(size=(1000, 1)) + 4.0 * labels[:, None]
    target_labels = np.repeat([0, 1], [50, 950])
    target = RNG.normal(size=(1000, 1)) + 4.0 * target_labels[:, None]
    maps = fit_into_target(source, target, "standardise")
    plain = fit_softmax(source, labels, l2=1e-3)
    mapped = fit_softmax(maps.source.transform(source), labels, l2=1e-3).after(maps.target)
    assert np.mean(plain.predict(target) == target_labels) > 0.95
    assert np.mean(mapped.predict(target) == target_labels) < 0.7
