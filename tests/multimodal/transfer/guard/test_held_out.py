import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from support.assertions import near

from multimodal.transfer.folds import each_fold, repeated_folds
from multimodal.transfer.guard.arms import compare_arms
from multimodal.transfer.guard.gaps import paired_gaps
from multimodal.transfer.guard.held_out import (
    L2,
    auc_gaps,
    balanced_row_weights,
    fit_probe,
    held_out_scores,
    majority_scores,
)
from multimodal.transfer.maps.pca import fit_span
from multimodal.transfer.probes.logistic import fit_logistic

RNG = np.random.default_rng(0)


def planted(n: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(n) % 3
    return RNG.normal(size=(n, dim)) + 2 * np.eye(3, dim)[labels], labels


@pytest.mark.parametrize("n, dim", [(60, 8), (30, 200)])
def test_the_probe_is_the_logistic_one_whether_or_not_its_span_is_smaller(n, dim):
    features, labels = planted(n, dim)
    ours, reference = fit_probe(features, labels, 3), fit_logistic(features, labels, l2=L2).classifier
    assert ours.weights.shape == (3, dim)
    assert np.abs(ours.logits(features) - reference.logits(features)).max() < 1e-2
    queries = RNG.normal(size=(50, dim))
    assert np.abs(ours.log_probabilities(queries) - reference.log_probabilities(queries)).max() < 1e-2


def test_coordinates_in_the_span_keep_all_distances_and_lie_in_as_many_dimensions_as_rows():
    features = RNG.normal(size=(5, 40))
    inside = fit_span(features).transform(features)
    assert inside.shape == (5, 5)
    assert inside @ inside.T == pytest.approx(features @ features.T)
    assert fit_span(np.zeros((3, 5))).transform(np.ones((2, 5))).shape == (2, 0)
    assert fit_span(features.T).transform(features.T) == pytest.approx(features.T)


def test_a_probe_on_features_that_never_vary_answers_by_the_shares():
    probe = fit_probe(np.ones((6, 10)), np.array([0, 0, 0, 0, 1, 1]), 2)
    assert np.exp(probe.log_probabilities(np.ones((1, 10))))[0] == near([2 / 3, 1 / 3], "four digits")


def test_permuted_labels_are_answered_by_chance():
    features, labels = planted(150, 20)
    labels = RNG.permutation(labels)
    parts = repeated_folds(labels, folds=5, repeats=2)
    right = held_out_scores(features, labels, parts, 3).right
    assert abs(right.mean() - 1 / 3) < 3 * np.sqrt(2 / 9 / 150)  # three standard errors


def test_weights_turn_accuracy_into_balanced_accuracy():
    labels = np.repeat([0, 1, 2], [30, 15, 5])
    right = RNG.integers(0, 2, (1, 50)).astype(float)
    outputs = np.where(right[0] == 1, labels, (labels + 1) % 3)
    parts = np.zeros((1, 50), np.int64)
    parts[0, ::2] = 1
    gaps = paired_gaps(right, np.zeros((1, 50)), parts, weights=balanced_row_weights(labels))
    assert gaps.per_record.mean() == pytest.approx(balanced_accuracy_score(labels, outputs))


def test_auc_gaps_are_scikit_learns_in_each_fold():
    features, labels = planted(90, 4)
    parts = repeated_folds(labels, folds=3)
    ours, theirs = held_out_scores(features, labels, parts, 3), majority_scores(labels, parts, 3)
    gaps = auc_gaps(ours, theirs, parts)
    expected = [
        roc_auc_score(labels[f.test], np.exp(ours.scores[0, f.test]), multi_class="ovr") - 0.5 for f in each_fold(parts)
    ]
    assert gaps.per_fold == pytest.approx(expected)


def test_a_fold_of_one_class_has_no_auc():
    labels = np.array([0, 0, 1, 1])
    outputs = majority_scores(labels, np.array([[0, 0, 1, 1]]), 2)
    assert auc_gaps(outputs, outputs, np.array([[0, 0, 1, 1]])) is None


def test_copies_of_one_record_make_scores_fiction_unless_they_are_grouped():
    """Twelve copies of each of 20 records of random classes: without groups a probe knows every one by heart."""
    labels, groups = np.repeat(RNG.integers(0, 2, 20), 12), np.repeat(np.arange(20), 12)
    features = RNG.normal(size=(20, 30))[groups]
    arms = {"raw": np.zeros((240, 1)), "probe": features}
    alone, grouped = compare_arms(arms, labels), compare_arms(arms, labels, groups=groups)
    assert alone["verdict"] == "positive"
    assert alone["arms"]["probe"]["value"] == 1.0
    assert grouped["verdict"] == "inconclusive"
    assert (alone["groups"], grouped["groups"]) == (None, 20)
    assert set(grouped["balanced_accuracy_gap"]) == set(grouped["auc_gap"]) == {"value", "low", "high"}
