import numpy as np
import pytest
from scipy.stats import entropy, multivariate_normal
from sklearn.metrics import mutual_info_score
from support.assertions import assert_close, near
from support.digits import digits, few, halves, random_features

from multimodal.transfer.instances.domain_weights import effective_size
from multimodal.transfer.selection.scores import Spectrum, leep, logme, negative_conditional_entropy, proxy_a_distance
from multimodal.transfer.selection.validators import importance_weighted_risk, target_entropy

PIXELS, LABELS = digits()
SOURCE, TARGET = halves()
RNG = np.random.default_rng(0)


def spectrum(features: np.ndarray) -> Spectrum:
    left, values, _ = np.linalg.svd(features, full_matrices=False)
    return Spectrum(left, values**2, size=len(features))


# --- LogME -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n, d", [(200, 20), (30, 512)])
def test_the_evidence_is_the_density_of_the_target(n, d):
    """Also with fewer records than features, where a term for each feature would print 54 instead of -1."""
    features, target = RNG.normal(size=(n, d)), RNG.normal(size=n)
    ours = spectrum(features)
    alpha, beta = ours.fit(target)
    covariance = np.eye(n) / beta + features @ features.T / alpha
    expected = multivariate_normal(np.zeros(n), covariance).logpdf(target)
    assert ours.log_evidence(target, alpha, beta) / n == near(expected / n, "six digits")
    assert -2 < ours.evidence(target) < -0.5


def test_the_precisions_are_the_best_ones():
    features = RNG.normal(size=(200, 20))
    target = features[:, :3].sum(axis=1) + RNG.normal(size=200)
    ours = spectrum(features)
    alpha, beta = ours.fit(target)
    best = ours.log_evidence(target, alpha, beta)
    for factor in (0.8, 1.25):
        assert ours.log_evidence(target, alpha * factor, beta) < best
        assert ours.log_evidence(target, alpha, beta * factor) < best


def test_offset_and_scale_of_the_features_say_nothing():
    rows = few(LABELS, 20)
    plain = logme(PIXELS[rows], LABELS[rows])
    assert logme(PIXELS[rows] * 8.0 + 5.0, LABELS[rows]) == near(plain, "four digits")


def test_features_that_tell_beat_permuted_ones_and_wider_noise_does_not_win():
    rows = few(LABELS, 6)
    labels = LABELS[rows]
    good, noise = logme(PIXELS[rows], labels), logme(RNG.normal(size=(60, 2048)), labels)
    assert -1 < noise < 1  # and not 54
    assert good > logme(PIXELS[RNG.permutation(rows)], labels) + 0.05
    assert good > noise + 0.05
    assert logme(random_features(64)[rows], labels) > logme(random_features(4)[rows], labels)


def test_records_of_one_class_rank_nothing_and_an_absent_class_takes_no_part():
    with pytest.raises(ValueError, match="add others"):
        logme(PIXELS[:5], np.zeros(5, np.int64))
    rows = few(LABELS, 5)
    assert logme(PIXELS[rows], LABELS[rows], num_classes=12) == logme(PIXELS[rows], LABELS[rows])


# --- LEEP and NCE ------------------------------------------------------------------------------------------------


def test_answers_that_say_nothing_leave_the_entropy_of_the_labels():
    labels = np.tile(np.arange(5), 20)
    assert leep(np.full((100, 7), 1 / 7), labels) == near(-np.log(5), "float64")


def test_answers_that_say_all_leave_nothing():
    assert leep(np.eye(10)[LABELS], LABELS) == near(0.0, "float64")


def test_of_certain_answers_leep_is_nce():
    predicted = RNG.integers(6, size=len(LABELS))
    assert leep(np.eye(6)[predicted], LABELS) == near(negative_conditional_entropy(predicted, LABELS), "float64")


def test_nce_is_mutual_information_less_entropy():
    predicted = (LABELS + RNG.integers(3, size=len(LABELS))) % 10
    expected = mutual_info_score(predicted, LABELS) - entropy(np.bincount(LABELS))
    assert negative_conditional_entropy(predicted, LABELS) == near(expected, "float64")


def test_leep_is_never_above_zero_and_a_class_without_mass_does_no_harm():
    probabilities = RNG.dirichlet(np.ones(4), size=50)
    with_empty = np.column_stack([probabilities, np.zeros(50)])
    labels = RNG.integers(3, size=50)
    assert leep(with_empty, labels) == near(leep(probabilities, labels), "float64")
    assert leep(probabilities, labels) <= 0


def test_logits_are_no_probabilities():
    with pytest.raises(ValueError, match="apply softmax"):
        leep(np.array([[2.0, 1.0]]), np.array([0]))
    with pytest.raises(ValueError, match="apply softmax"):
        target_entropy(np.array([[2.0, 1.0]]))


# --- proxy A-distance --------------------------------------------------------------------------------------------


def test_halves_of_one_set_are_near_and_disjoint_sets_far():
    assert abs(proxy_a_distance(PIXELS[SOURCE], PIXELS[TARGET])) < 0.25
    assert proxy_a_distance(PIXELS[SOURCE], PIXELS[TARGET] + 5.0) == near(2.0, "a hundredth")


def test_domains_of_unequal_size_count_alike():
    assert abs(proxy_a_distance(PIXELS[SOURCE], PIXELS[TARGET][:90])) < 0.5


def test_a_distance_does_not_foretell_harm():
    """A change that any scaling undoes is as far away as one that destroys the labels."""
    contrast = proxy_a_distance(PIXELS[SOURCE], 0.3 * PIXELS[TARGET] + 0.5)
    inverted = proxy_a_distance(PIXELS[SOURCE], 1.0 - PIXELS[TARGET])
    assert contrast == near(inverted, "a twentieth")


# --- validators --------------------------------------------------------------------------------------------------


def test_weights_of_one_give_the_mean_and_its_error():
    losses = RNG.exponential(size=400)
    score = importance_weighted_risk(losses, np.ones(400))
    assert_close([score.value, score.error], [losses.mean(), losses.std(ddof=1) / 20], "float64")
    assert score.effective_size == 400
    assert "unreliable" in score.warning


def test_weights_recover_the_risk_of_another_domain():
    """E[x^2] under N(1, 1) from N(0, 1): the density ratio is exp(x - 1/2)."""
    x = RNG.normal(size=200_000)
    score = importance_weighted_risk(x**2, np.exp(x - 0.5))
    assert score.value == near(2.0, "5 %")
    assert score.effective_size < 100_000


def test_entropy_is_scipys_and_a_collapsed_model_looks_perfect():
    probabilities = RNG.dirichlet(np.ones(4), size=50)
    assert target_entropy(probabilities).value == near(entropy(probabilities, axis=1).mean(), "float64")
    assert target_entropy(np.eye(4)[np.zeros(50, np.int64)]).value == 0.0  # which is why it may not choose alone


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="two records or more"):
        importance_weighted_risk(np.array([1.0]), np.ones(1))
    assert effective_size(np.array([1.0, 0.0])) == 1.0
