import numpy as np
import pytest
from sklearn.svm import LinearSVC
from support.assertions import assert_close, near
from support.digits import digits, few

from multimodal.transfer.probes.neighbours import fit_nearest_mean
from multimodal.transfer.probes.svm import fit_svm, scale_margins

PIXELS, LABELS = digits()
ROWS = few(LABELS, 8)
X, Y = PIXELS[ROWS], LABELS[ROWS]
CORNERS = np.repeat(np.eye(4), 3, axis=0)
NAMES = np.repeat(np.arange(4), 3)


# --- nearest mean ------------------------------------------------------------------------------------------------


def test_the_nearest_mean_is_the_one_at_the_smallest_distance():
    means = np.stack([X[label == Y].mean(axis=0) for label in range(10)])
    distances = np.linalg.norm(PIXELS[:, None] - means, axis=2)
    assert np.array_equal(fit_nearest_mean(X, Y).predict(PIXELS), distances.argmin(axis=1))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_clear_clusters_are_told_apart(metric):
    assert np.array_equal(fit_nearest_mean(CORNERS, NAMES, metric=metric).predict(CORNERS), NAMES)


def test_a_class_more_changes_no_other():
    without, whole = fit_nearest_mean(X[Y < 9], Y[Y < 9]), fit_nearest_mean(X, Y)
    assert_close(whole.weights[:9], without.weights, "float64")
    assert_close(whole.bias[:9], without.bias, "float64")


def test_the_cosine_does_not_see_lengths():
    probe = fit_nearest_mean(X, Y, metric="cosine")
    assert np.array_equal(probe.predict(PIXELS), probe.predict(PIXELS * 7.0))


def test_a_class_without_a_record_has_no_mean():
    with pytest.raises(ValueError, match=r"classes \[1\] have no record"):
        fit_nearest_mean(np.eye(2), np.array([0, 2]))
    with pytest.raises(ValueError, match="'euclidean' or 'cosine'"):
        fit_nearest_mean(X, Y, metric="dot")


# --- support vectors ---------------------------------------------------------------------------------------------


def test_the_machine_answers_as_scikit_learns_and_its_probabilities_beat_raw_margins():
    ours = fit_svm(X, Y, cost=0.1)
    scaled = (X - X.mean(0)) / np.where(X.std(0) > 0, X.std(0), 1.0)
    everything = (PIXELS - X.mean(0)) / np.where(X.std(0) > 0, X.std(0), 1.0)
    theirs = LinearSVC(C=0.1, dual="auto", random_state=0, max_iter=100_000).fit(scaled, Y)
    constant = X.std(0) == 0  # ours leaves them out, where theirs has weight zero
    margins = theirs.decision_function(np.where(constant, 0.0, everything))
    assert np.mean(ours.predict(PIXELS) == margins.argmax(1)) > 0.95  # the offsets move a few
    assert np.mean(ours.predict(PIXELS) == LABELS) > np.mean(margins.argmax(1) == LABELS) - 0.02
    held_out = np.setdiff1d(np.arange(len(LABELS)), ROWS)
    loss = -ours.log_probabilities(PIXELS[held_out])[np.arange(len(held_out)), LABELS[held_out]].mean()
    raw = margins[held_out] - np.log(np.exp(margins[held_out]).sum(1, keepdims=True))
    assert loss < -raw[np.arange(len(held_out)), LABELS[held_out]].mean()


def test_two_classes_share_one_direction():
    two = Y < 2
    probe = fit_svm(X[two], Y[two])
    assert_close(probe.weights[0], -probe.weights[1])
    assert np.array_equal(probe.predict(X[two]), Y[two])


def test_margins_that_say_nothing_are_scaled_to_the_shares_of_the_classes():
    labels = np.repeat([0, 1], [900, 100])
    factor, offset = scale_margins(np.random.default_rng(0).normal(size=(1000, 2)), labels)
    assert factor < 0.2
    assert 1 / (1 + np.exp(offset[1] - offset[0])) == near(0.9, "a fiftieth")


def test_without_two_records_per_class_nothing_can_be_calibrated():
    with pytest.raises(ValueError, match="use fit_nearest_mean"):
        fit_svm(np.eye(3), np.arange(3))
