"""Leave-one-out retrieval, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from support.assertions import assert_close

from multimodal.decoding import Embedding
from multimodal.metrics import selection_score, task_metrics
from multimodal.metrics.ranking import _average_precision, macro_average_precision, rank_partners
from multimodal.task_types import task_type


def unit(n: int, width: int = 3, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, width))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_average_precision_is_that_of_scikit_learn():
    vectors, labels = unit(300), np.random.default_rng(1).integers(0, 9, 300)
    ranks = rank_partners(vectors, labels)
    cosines = vectors @ vectors.T
    for row in range(0, 300, 37):
        others = np.arange(300) != row
        expected = average_precision_score(labels[others] == labels[row], cosines[row, others])
        assert_close(ranks.precision[row], expected, "float64")


RNG = np.random.default_rng(5)
TABLES = {
    "plain": (RNG.random(50), RNG.random(50) < 0.3),
    "ties": (RNG.integers(0, 4, 40) / 4, RNG.random(40) < 0.4),
    "all alike": (np.full(12, 0.5), np.arange(12) < 5),
    "two positives": (RNG.random(30), np.arange(30) < 2),
    "positives alone": (RNG.random(6), np.ones(6, bool)),
    "one negative": (RNG.random(9), np.arange(9) > 0),
}


@pytest.mark.parametrize("case", TABLES)
def test_average_precision_of_classes_is_that_of_scikit_learn(case):
    scores, truth = TABLES[case]
    found = macro_average_precision(scores[:, None], truth[:, None])
    assert found is not None
    assert_close(found.value, average_precision_score(truth, scores), "float64")


@pytest.mark.parametrize("case", TABLES)
def test_the_change_by_leaving_a_record_out_is_that_of_scoring_the_rest(case):
    scores, truth = TABLES[case]
    value, changes = _average_precision(scores, truth)
    rest = [average_precision_score(np.delete(truth, row), np.delete(scores, row)) for row in range(len(scores))]
    assert_close(changes, value - np.array(rest), "float64")


def test_a_class_without_positives_is_left_out_of_the_mean_average_precision():
    scores, truth = RNG.random((30, 3)), RNG.random((30, 3)) < 0.4
    truth[:, 1] = False
    found = macro_average_precision(scores, truth)
    assert found is not None
    assert_close(found.value, average_precision_score(truth[:, [0, 2]], scores[:, [0, 2]]), "float64")
    assert macro_average_precision(scores, np.zeros((30, 3), bool)) is None


def test_the_first_place_is_that_of_the_nearest_of_its_label():
    vectors, labels = unit(60), np.arange(60) % 9
    first = rank_partners(vectors, labels).first
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    ranked = labels[np.argsort(-cosines, axis=1)]
    assert first.tolist() == [int(np.argmax(row == label)) + 1 for row, label in zip(ranked, labels, strict=True)]


def test_embeddings_that_are_all_equal_find_nothing():
    metrics = task_metrics(Embedding(), np.ones((6, 1)), np.array([0, 0, 0, 1, 1, 1]))
    assert metrics["recall_at_1"]["value"] == 0.0
    assert metrics["map"]["value"] == pytest.approx(np.mean([1 / 4, 2 / 5]))


def test_records_alone_with_their_label_are_there_to_be_taken_for_others():
    near = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    metrics = task_metrics(Embedding(), near, np.array([4, 7, 4]))
    assert (metrics["n"], metrics["alone"]) == (2, 1)
    assert metrics["recall_at_1"]["value"] == 0.0
    assert metrics["recall_at_5"]["value"] == 1.0
    assert metrics["map"]["value"] == 0.5


TYPES = {"product": task_type("embedding")}


def test_a_table_without_two_of_a_label_defines_no_score():
    metrics = task_metrics(Embedding(), unit(3), np.arange(3))
    assert metrics["recall_at_1"] == metrics["map"] == {"value": None, "low": None, "high": None}
    with pytest.raises(ValueError, match="not defined on these records"):
        selection_score({"product": metrics}, "mean", TYPES)


def test_the_average_precision_chooses_where_the_mean_is_asked_for():
    near = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    metrics = task_metrics(Embedding(), near, np.array([4, 7, 4]))
    assert selection_score({"product": metrics}, "mean", TYPES) == 0.5
    assert selection_score({"product": metrics}, "product.recall_at_5", TYPES) == 1.0


@pytest.mark.parametrize("n, labels, copies", [(40, 5, 1), (30, 14, 1), (12, 5, 3), (25, 2, 1), (20, 9, 2)])
def test_the_variances_are_those_of_leaving_each_record_out(n, labels, copies):
    """By taking each record away and ranking again; copies of records are ties."""
    vectors, own = (
        np.repeat(unit(n), copies, axis=0),
        np.repeat(np.random.default_rng(2).integers(0, labels, n), copies),
    )

    def scores(rows: np.ndarray) -> dict[int, np.ndarray]:
        kept = [row for row in rows if (own[rows] == own[row]).sum() > 1]
        ranks = rank_partners(vectors[rows], own[rows])
        table = np.stack([ranks.first <= 1, ranks.first <= 5, ranks.precision], axis=1)
        return dict(zip(kept, table, strict=True))

    rows = np.arange(len(own))
    whole = scores(rows)
    mean = np.mean(list(whole.values()), axis=0)
    covariances, variances = np.zeros(3), sum((value - mean) ** 2 for value in whole.values())
    for left_out in rows:
        without = scores(rows[rows != left_out])
        changes = np.array([without.get(row, mean) - value for row, value in whole.items()])  # none is the mean itself
        covariances += changes.sum(axis=0) ** 2 - (changes**2).sum(axis=0)
    expected = (variances + np.maximum(covariances, 0)) / len(whole) ** 2
    assert_close(rank_partners(vectors, own).variances, expected, "sums")
