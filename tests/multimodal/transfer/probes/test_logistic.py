import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from support.assertions import assert_close, near
from support.digits import digits, few

from multimodal.transfer.maps.domain import fit_standardise
from multimodal.transfer.probes.logistic import fit_logistic, fit_softmax

PIXELS, LABELS = digits()
ROWS = few(LABELS, 10)
X, Y = PIXELS[ROWS], LABELS[ROWS]


def test_it_is_scikit_learns_optimum():
    ours = fit_softmax(X, Y, l2=0.01)
    theirs = LogisticRegression(C=1 / (len(X) * 0.01), tol=1e-8, max_iter=5000).fit(X, Y)
    assert_close(ours.log_probabilities(X), theirs.predict_log_proba(X), "optimum")
    assert np.array_equal(ours.predict(PIXELS), theirs.predict(PIXELS))


def test_at_the_optimum_the_gradient_is_zero():
    ours = fit_softmax(X, Y, l2=0.01)
    slopes = (np.exp(ours.log_probabilities(X)) - np.eye(10)[Y]) / len(X)
    assert np.abs(slopes.T @ X + 0.01 * ours.weights).max() < 1e-4
    assert np.abs(slopes.sum(axis=0)).max() < 1e-4


def test_a_weight_of_two_is_a_record_twice():
    weights = np.where(Y == 3, 2.0, 1.0)
    twice = np.concatenate([np.arange(len(X)), np.flatnonzero(Y == 3)])
    weighted = fit_softmax(X, Y, l2=0.01, row_weights=weights)
    assert_close(weighted.weights, fit_softmax(X[twice], Y[twice], l2=0.01).weights, "optimum")


def test_a_strong_anchor_is_not_left_and_a_weak_one_is():
    anchor = np.random.default_rng(0).normal(size=(10, 64))
    assert np.abs(fit_softmax(X, Y, l2=1e4, anchor=anchor).weights - anchor).max() < 1e-3
    assert np.abs(fit_softmax(X, Y, l2=1e-3, anchor=anchor).weights - anchor).max() > 0.1


def test_the_scaling_folds_away_exactly():
    probe = fit_logistic(X, Y, l2=0.01)
    scaled = StandardScaler().fit(X)
    direct = fit_softmax(fit_standardise(X).transform(X), Y, l2=0.01)
    assert_close(probe.classifier.logits(PIXELS), direct.logits(scaled.transform(PIXELS)))


def test_the_scale_of_the_features_changes_no_answer():
    factors = np.exp(np.random.default_rng(0).normal(size=64))
    outputs = fit_logistic(X, Y, l2=0.01).classifier.predict(PIXELS)
    assert (
        np.mean(outputs == fit_logistic(X * factors + 3.0, Y, l2=0.01).classifier.predict(PIXELS * factors + 3)) > 0.999
    )


def test_noise_gets_a_strong_penalty_and_answers_no_better_than_chance():
    rng = np.random.default_rng(0)
    noise, labels = rng.normal(size=(60, 20)), np.tile([0, 1, 2], 20)
    probe = fit_logistic(noise, labels, l2=(1e-4, 1e-1, 10.0))
    assert probe.l2 == 10.0
    assert probe.scores[10.0] == near(-np.log(3), "a twentieth")
    assert fit_logistic(X, Y, l2=(1e-2, 10.0)).l2 == 1e-2


def test_records_of_one_group_do_not_vote_for_themselves():
    rng = np.random.default_rng(0)
    noise, labels = np.repeat(rng.normal(size=(30, 20)), 4, axis=0), np.repeat(np.tile([0, 1], 15), 4)
    assert fit_logistic(noise, labels, l2=(1e-3, 10.0)).l2 == 1e-3  # copies look like proof
    assert fit_logistic(noise, labels, l2=(1e-3, 10.0), groups=np.repeat(np.arange(30), 4)).l2 == 10.0


def test_a_class_without_a_record_keeps_its_place():
    probe = fit_logistic(X[Y < 9], Y[Y < 9], l2=0.01, num_classes=10)
    assert probe.classifier.weights.shape == (10, 64)
    assert not (probe.classifier.predict(PIXELS) == 9).any()


def test_what_cannot_be_chosen_says_so():
    with pytest.raises(ValueError, match="give one l2"):
        fit_logistic(np.eye(3), np.arange(3))
    with pytest.raises(ValueError, match="above 0"):
        fit_softmax(np.eye(3), np.arange(3), l2=0.0)
