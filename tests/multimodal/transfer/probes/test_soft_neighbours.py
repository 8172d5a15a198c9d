import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from support.assertions import assert_close
from support.digits import digits, few

from multimodal.transfer.probes.neighbours import PRIOR_VOTE, fit_nearest_mean, fit_soft_neighbours
from multimodal.transfer.probes.svm import fit_svm

PIXELS, LABELS = digits()
ROWS = few(LABELS, 8)
X, Y = PIXELS[ROWS], LABELS[ROWS]


def test_the_coldest_votes_are_the_nearest_neighbours():
    centred = X - X.mean(axis=0)
    theirs = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(centred, Y)
    ours = fit_soft_neighbours(X, Y, temperatures=1e-4)
    assert np.array_equal(ours.logits(PIXELS).argmax(axis=1), theirs.predict(PIXELS - X.mean(axis=0)))


def test_the_vote_is_the_formula():
    features, labels = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), np.array([0, 0, 1, 1])
    probe = fit_soft_neighbours(features, labels, temperatures=0.5)
    votes = np.array([1 + np.exp(-2 / 0.5), 2 * np.exp(-1 / 0.5)])  # cosines 1, -1 and twice 0
    assert_close(probe.logits(np.array([[7.0, 0.0]])), np.log(votes + PRIOR_VOTE * 0.5)[None], "float64")


def test_no_record_votes_for_one_of_its_own_group():
    """Copies with labels by chance: whoever saw a copy would know the label."""
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(60, 8)), rng.integers(0, 2, 60)
    copies, rows = np.repeat(features, 2, axis=0), np.repeat(np.arange(60), 2)
    leaking = fit_soft_neighbours(copies, labels[rows])
    grouped = fit_soft_neighbours(copies, labels[rows], groups=rows)
    assert max(leaking.scores.values()) > np.log(0.9)
    assert max(grouped.scores.values()) < np.log(0.6)
    assert grouped.temperature > leaking.temperature


def test_copies_of_a_fraction_each_count_as_the_record_once():
    rows = np.repeat(np.arange(len(Y)), 2)
    once = fit_soft_neighbours(X, Y)
    twice = fit_soft_neighbours(X[rows], Y[rows], groups=rows, row_weights=np.full(len(rows), 0.5))
    assert once.temperature == twice.temperature
    assert np.array_equal(once.logits(PIXELS).argmax(1), twice.logits(PIXELS).argmax(1))
    means = fit_nearest_mean(X, Y, metric="cosine")
    assert_close(
        fit_nearest_mean(X[rows], Y[rows], metric="cosine", row_weights=np.full(len(rows), 0.5)).weights,
        means.weights,
        "float64",
    )


def test_a_record_of_weight_zero_is_not_there():
    extra, wrong = np.concatenate([X, X[:8] + 0.5]), np.concatenate([Y, (Y[:8] + 1) % 10])
    weights = np.repeat([1.0, 0.0], [len(X), 8])
    without, weighted = fit_nearest_mean(X, Y), fit_nearest_mean(extra, wrong, row_weights=weights)
    assert_close(weighted.weights, without.weights, "float64")
    votes = fit_soft_neighbours(extra, wrong, temperatures=0.1, row_weights=weights).logits(PIXELS)
    plain = fit_soft_neighbours(X, Y, temperatures=0.1).logits(PIXELS)
    assert np.array_equal(votes.argmax(1), plain.argmax(1))


def test_the_machine_of_weighted_copies_is_that_of_the_records():
    rows = np.repeat(np.arange(len(Y)), 2)
    once = fit_svm(X, Y, groups=np.arange(len(Y)))
    twice = fit_svm(X[rows], Y[rows], groups=rows, row_weights=np.full(len(rows), 0.5))
    # the folds differ, and with them how sure it is; the machine does not
    assert np.mean(once.predict(PIXELS) == twice.predict(PIXELS)) > 0.97


def test_what_is_no_temperature_is_refused():
    with pytest.raises(ValueError, match="a temperature is 0; give numbers above 0"):
        fit_soft_neighbours(X, Y, temperatures=(0, 0.1))
    with pytest.raises(ValueError, match="there is one group of records"):
        fit_soft_neighbours(X, Y, groups=np.zeros(len(Y)))
