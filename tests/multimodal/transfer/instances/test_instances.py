import logging

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from support.assertions import assert_close, near
from support.digits import digits, few, halves

from multimodal.transfer.instances.domain_weights import density_ratio_weights, domain_log_odds, kernel_mean_matching
from multimodal.transfer.instances.source_weight import choose_source_weight, fit_with_source
from multimodal.transfer.probes.logistic import fit_softmax

PIXELS, LABELS = digits()
SOURCE, REST = halves()
TARGET, TEST = REST[few(LABELS[REST], 5)], np.setdiff1d(REST, REST[few(LABELS[REST], 5)])


def normals(n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 1)), rng.normal(1.0, 1.0, size=(m, 1))


def right(predict, labels: np.ndarray = LABELS) -> float:
    return float(np.mean(predict(PIXELS[TEST]) == labels[TEST]))


# --- density ratio -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n, m", [(2000, 2000), (4000, 2000)])
def test_log_odds_are_the_log_density_ratio_whatever_the_sizes(n, m):
    """log N(1, 1) / N(0, 1) = x - 1/2; without the correction twice as many source records would make it -1.2."""
    source, target = normals(n, m)
    slope, intercept = np.polyfit(source[:, 0], domain_log_odds(source, target).source, 1)
    assert slope == near(1.0, "three twentieths")
    assert intercept == near(-0.5, "a tenth")


def test_ratios_are_not_inverted():
    source, target = normals(500, 500)
    found = density_ratio_weights(source, target)
    assert np.corrcoef(found.log_ratio, source[:, 0] - 0.5)[0, 1] > 0.9
    assert np.corrcoef(np.log(found.weights), source[:, 0])[0, 1] > 0.9


def test_weights_have_mean_one_and_flattened_ones_say_nothing():
    source, target = normals(500, 300)
    found = density_ratio_weights(source, target)
    assert found.weights.mean() == pytest.approx(1.0)
    assert 0 < found.effective_size < 500
    assert_close(density_ratio_weights(source, target, flatten=0.0).weights, np.ones(500), "float64")


def test_weights_repair_a_shift_of_the_inputs_and_inverted_ones_would_not():
    """A line fitted to a curve is best where it is fitted: sinc, source around 1, target around 2."""
    rng = np.random.default_rng(0)
    errors = {"plain": 0.0, "weighted": 0.0, "inverted": 0.0}
    for _ in range(5):
        source, target = rng.normal(1.0, 0.5, (150, 1)), rng.normal(2.0, 0.25, (150, 1))
        truth = np.sinc(source[:, 0]) + rng.normal(0, 0.25, 150)
        weights = density_ratio_weights(source, target).weights
        for name, used in (("plain", np.ones(150)), ("weighted", weights), ("inverted", 1 / weights)):
            line = np.polyfit(source[:, 0], truth, 1, w=np.sqrt(used))
            errors[name] += float(np.mean((np.polyval(line, target[:, 0]) - np.sinc(target[:, 0])) ** 2)) / 5
    assert errors["weighted"] < 0.3 * errors["plain"] < errors["inverted"]


def test_domains_that_hardly_overlap_are_reported(caplog):
    source, _ = normals(500, 10)
    with caplog.at_level(logging.WARNING):
        found = density_ratio_weights(source, source[:200] + 8.0, flatten=1.0, clip=1e9, l2=1e-6)
    assert found.effective_size < 50
    assert "hardly overlap" in caplog.text


def test_what_makes_no_weights_is_refused():
    source, target = normals(20, 20)
    with pytest.raises(ValueError, match=r"flatten in 0\.\.1"):
        density_ratio_weights(source, target, flatten=2.0)
    with pytest.raises(ValueError, match="for 5 folds; add some"):
        density_ratio_weights(source, target[:3])


# --- kernel mean matching ----------------------------------------------------------------------------------------


def test_matching_keeps_the_part_that_overlaps():
    """Of ADAPT's test: half of the source lies on the target, half far from it."""
    rng = np.random.RandomState(0)
    source = np.concatenate([rng.randn(50) * 0.1, rng.randn(50) * 0.1 + 1.0])[:, None]
    weights = kernel_mean_matching(source, rng.randn(100, 1) * 0.1, bandwidth=np.sqrt(0.5))
    assert weights[:50].sum() == near(100, "5 %")
    assert weights[50:].sum() < 0.1


def test_the_optimum_meets_its_conditions():
    source, target = normals(60, 60)
    weights = kernel_mean_matching(source, target, bandwidth=1.0, most=5.0)
    kernel = np.exp(-((source - source.T) ** 2) / 2)
    slopes = kernel @ weights - 60 * np.exp(-((source - target.T) ** 2) / 2).mean(axis=1)
    inside = (weights > 1e-6) & (weights < 5 - 1e-6)
    assert np.abs(slopes[inside]).max() < 0.01
    assert (slopes[weights <= 1e-6] > -0.01).all()
    assert (slopes[weights >= 5 - 1e-6] < 0.01).all()
    with pytest.raises(ValueError, match="both above 0"):
        kernel_mean_matching(source, target, bandwidth=0.0)


# --- the source's weight -----------------------------------------------------------------------------------------


def test_a_source_of_weight_zero_is_none_and_of_one_is_pooled():
    source, target = (PIXELS[SOURCE], LABELS[SOURCE]), (PIXELS[TARGET], LABELS[TARGET])
    alone = fit_with_source(source, target, weight=0.0)
    assert_close(alone.weights, fit_softmax(*target, l2=1e-2).weights, "float64")
    pooled = [np.concatenate(pair) for pair in zip(source, target, strict=True)]
    theirs = LogisticRegression(C=1 / (len(pooled[0]) * 1e-2), max_iter=5000, tol=1e-6).fit(*pooled)
    assert np.mean(fit_with_source(source, target, weight=1.0).predict(PIXELS) == theirs.predict(PIXELS)) > 0.995


def test_a_useful_source_is_used_and_a_harmful_one_left_out():
    target = (PIXELS[TARGET], LABELS[TARGET])
    rows = SOURCE[:150]
    useful = choose_source_weight((PIXELS[rows], LABELS[rows]), target, grid=(0.3,))
    harmful = choose_source_weight((PIXELS[rows], (LABELS[rows] + 1) % 10), target, grid=(0.3,))
    alone = right(fit_softmax(*target, l2=1e-2).predict)
    assert useful.weight > 0
    assert right(useful.classifier.predict) > alone + 0.01
    assert right(harmful.classifier.predict) > alone - 0.03
    assert set(harmful.scores) == {0.0, 0.3}


def test_a_single_target_label_per_class_chooses_nothing():
    rows = TARGET[few(LABELS[TARGET], 1)]
    with pytest.raises(ValueError, match="two target labels"):
        choose_source_weight((PIXELS[SOURCE], LABELS[SOURCE]), (PIXELS[rows], LABELS[rows]))
