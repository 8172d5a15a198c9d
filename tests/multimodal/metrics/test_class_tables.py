"""Tables of labels against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, multilabel_confusion_matrix, precision_recall_fscore_support
from support.assertions import assert_close

from multimodal.decoding import Sigmoid, Softmax
from multimodal.metrics.class_tables import classification_table

LABELS = ("a", "b", "c", "d")
RNG = np.random.default_rng(0)
CASES = {
    "some right": (RNG.integers(0, 4, 60), RNG.integers(0, 4, 60)),
    "all right": (np.arange(8) % 4, np.arange(8) % 4),
    "one class given": (np.arange(12) % 4, np.full(12, 2)),
    "one class there": (np.full(9, 1), np.arange(9) % 4),
    "two of four": (np.array([0, 0, 1]), np.array([1, 0, 1])),
    "one record": (np.array([3]), np.array([0])),
    "no record": (np.zeros(0, np.int64), np.zeros(0, np.int64)),
}


@pytest.mark.parametrize("case", CASES)
def test_labels_have_scikit_learns_precision_recall_f1_and_support(case):
    targets, predicted = CASES[case]
    rows = classification_table(targets, predicted, LABELS)["classes"]
    assert [row["label"] for row in rows] == list(LABELS)
    assert [row["predicted"] for row in rows] == np.bincount(predicted, minlength=4).tolist()
    if not len(targets):
        assert all(row["precision"] is row["recall"] is row["f1"] is None for row in rows)
        return
    expected = precision_recall_fscore_support(targets, predicted, labels=range(4), zero_division=np.nan)
    for name, values in zip(("precision", "recall", "f1", "n"), expected, strict=True):
        found = [np.nan if row[name] is None else row[name] for row in rows]
        assert_close(found, values.tolist(), "float64")


@pytest.mark.parametrize("case", CASES)
def test_the_confusions_are_scikit_learns_matrix_without_its_zeros(case):
    targets, predicted = CASES[case]
    found = np.zeros((4, 4), int)
    for cell in classification_table(targets, predicted, LABELS)["confusion"]:
        assert cell["n"] > 0
        found[LABELS.index(cell["label"]), LABELS.index(cell["predicted"])] = cell["n"]
    expected = confusion_matrix(targets, predicted, labels=range(4)) if len(targets) else np.zeros((4, 4), int)
    assert found.tolist() == expected.tolist()


def test_a_class_that_training_did_not_have_is_a_row_without_predictions():
    outputs, targets = 9.0 * np.eye(2)[[0, 1, 0]], np.array([0, 1, 2])
    decoding = Softmax(("a", "b"))
    details = decoding.details(decoding.scores(outputs), targets, ("new",))
    assert details["classes"][2] == {"label": "new", "n": 1, "predicted": 0, "precision": None, "recall": 0.0, "f1": 0}
    assert {"label": "new", "predicted": "a", "n": 1} in details["confusion"]


def test_labels_of_a_multilabel_task_are_counted_by_their_own_thresholds():
    decoding = Sigmoid(("a", "b", "c"), (0.2, 0.5, 0.9))
    targets, scores = RNG.integers(0, 2, (40, 4)), RNG.random((40, 3))
    rows = decoding.details(scores, targets, ("new",))["classes"]
    given = np.concatenate([scores >= np.array([0.2, 0.5, 0.9]), np.zeros((40, 1), bool)], axis=1)
    expected = multilabel_confusion_matrix(targets, given)
    for row, ((_, false), (missed, hit)) in zip(rows, expected.tolist(), strict=True):
        assert (row["n"], row["predicted"]) == (hit + missed, hit + false)
        assert row["recall"] == hit / (hit + missed)
        assert row["precision"] == (hit / (hit + false) if hit + false else None)


def test_a_record_is_given_the_positive_class_from_its_threshold_on():
    decoding = Softmax(("bad", "good"), positive="bad", threshold=0.3)
    scores = np.array([[0.29, 0.71], [0.3, 0.7], [0.9, 0.1], [0.0, 1.0], [0.31, 0.69]])
    assert decoding.chosen(scores).tolist() == [1, 0, 0, 1, 0]
    found = decoding.predictions(np.log(np.maximum(scores, 1e-9)))
    assert [one.label for one in found] == ["good", "bad", "bad", "good", "bad"]
    assert_close([one.probability for one in found], [0.71, 0.3, 0.9, 1.0, 0.31], "float32")
    assert Softmax(("bad", "good")).chosen(scores).tolist() == scores.argmax(axis=1).tolist()
