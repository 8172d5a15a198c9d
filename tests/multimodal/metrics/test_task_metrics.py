import json
import math

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    mean_absolute_error,
    precision_score,
    r2_score,
    recall_score,
    roc_auc_score,
    root_mean_squared_error,
    top_k_accuracy_score,
)
from support.assertions import assert_close, near

from multimodal.decoding import Destandardize, PairedEmbeddings, Sigmoid, Softmax
from multimodal.metrics import selection_score, task_metrics
from multimodal.metrics.intervals import wilson_interval
from multimodal.metrics.ranking import macro_auc
from multimodal.task_types import task_type

LABELS = tuple("abcde")
SOFTMAX = Softmax(LABELS)


def logits(targets: np.ndarray, classes: int, signal: float, *, seed: int = 0) -> np.ndarray:
    """Noise that leans towards the target's class."""
    outputs = np.random.default_rng(seed).normal(size=(len(targets), classes)).astype(np.float32)
    known = targets < classes
    outputs[np.flatnonzero(known), targets[known]] += signal
    return outputs


def values(metrics: dict) -> dict[str, float]:
    return {name: score["value"] for name, score in metrics.items() if isinstance(score, dict) and "value" in score}


def classes(n: int, *, seed: int = 1) -> np.ndarray:
    """Skewed, every class present."""
    return np.random.default_rng(seed).choice(5, size=n, p=[0.4, 0.3, 0.15, 0.1, 0.05])


def test_classification_agrees_with_scikit_learn():
    targets = classes(200)
    outputs = logits(targets, 5, 1.0)
    answers, scores = outputs.argmax(1), SOFTMAX.scores(outputs)
    expected = {
        "accuracy": accuracy_score(targets, answers),
        "balanced_accuracy": balanced_accuracy_score(targets, answers),
        "macro_f1": f1_score(targets, answers, average="macro"),
        "auc": roc_auc_score(targets, scores, multi_class="ovr"),
        "average_precision": average_precision_score(targets, scores),
        "top_3_accuracy": top_k_accuracy_score(targets, scores, k=3),
    }
    metrics = task_metrics(SOFTMAX, outputs, targets)
    assert metrics["n"] == 200
    assert (metrics["absent"], metrics["unknown"]) == ([], {})
    assert list(values(metrics)) == list(expected)
    assert_close(list(values(metrics).values()), list(expected.values()), "float64")


@pytest.mark.parametrize(("positive", "threshold"), [("", 0.5), ("a", 0.5), ("a", 0.2), ("b", 0.8), ("b", 0.5)])
def test_of_two_classes_the_positive_one_has_scikit_learns_scores(positive, threshold):
    targets = np.random.default_rng(3).choice(2, size=120, p=[0.7, 0.3])
    decoding = Softmax(("a", "b"), positive=positive, threshold=threshold)
    outputs = logits(targets, 2, 1.0)
    column = ("a", "b").index(positive or "b")
    probabilities = decoding.scores(outputs)[:, column]
    given, truth = probabilities >= threshold, targets == column
    metrics = task_metrics(decoding, outputs, targets)
    assert metrics["positive"] == (positive or "b")
    expected = {
        "accuracy": accuracy_score(truth, given),
        "average_precision": average_precision_score(truth, probabilities),
        "precision": precision_score(truth, given),
        "recall": recall_score(truth, given),
        "f1": f1_score(truth, given),
    }
    assert_close([metrics[name]["value"] for name in expected], list(expected.values()), "float64")


def test_ties_count_against_the_most_probable_classes():
    outputs = np.array([[1.0, 1.0, 1.0, 1.0, 0.0], [3.0, 2.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0, 4.0]])
    metrics = task_metrics(SOFTMAX, outputs, np.array([0, 1, 0]))
    assert metrics["top_3_accuracy"]["value"] == 1 / 3  # the fourth of four alike, the third of two alike, the last
    assert "top_5_accuracy" not in metrics


def test_macro_f1_counts_classes_that_were_only_answered_and_balanced_accuracy_does_not():
    targets, answers = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    metrics = task_metrics(SOFTMAX, 9.0 * np.eye(5)[answers], targets)
    assert_close(metrics["macro_f1"]["value"], f1_score(targets, answers, average="macro"), "float64")
    assert metrics["balanced_accuracy"]["value"] == 0.75
    assert metrics["absent"] == ["c", "d", "e"]


def test_auc_leaves_absent_classes_out_of_its_mean():
    targets = np.array([0, 1, 0, 1, 1, 0, 2])
    outputs = logits(targets, 5, 0.5)
    scores = SOFTMAX.scores(outputs)
    expected = np.mean([roc_auc_score(targets == k, scores[:, k]) for k in range(3)])
    metrics = task_metrics(SOFTMAX, outputs, targets)
    assert_close(metrics["auc"]["value"], expected, "float64")
    assert metrics["absent"] == ["d", "e"]


def test_ties_count_one_half_in_the_auc():
    targets = classes(100)
    outputs = np.round(logits(targets, 5, 1.0))  # many equal rows
    expected = roc_auc_score(targets, SOFTMAX.scores(outputs), multi_class="ovr")
    assert_close(task_metrics(SOFTMAX, outputs, targets)["auc"]["value"], expected, "float64")
    constant = task_metrics(SOFTMAX, np.zeros((100, 5)), targets)
    assert constant["auc"]["value"] == 0.5


def test_a_label_that_training_lacked_is_wrong_and_listed():
    targets = np.array([0, 1, 5, 6, 5, 2, 3, 4])
    outputs = logits(targets, 5, 9.0)
    answers = outputs.argmax(1)
    metrics = task_metrics(SOFTMAX, outputs, targets, unknown=("x", "y"))
    assert metrics["unknown"] == {"x": 2, "y": 1}
    assert metrics["n"] == 8
    assert metrics["accuracy"]["value"] == 5 / 8
    assert metrics["balanced_accuracy"]["value"] == 5 / 7
    assert_close(metrics["macro_f1"]["value"], f1_score(targets, answers, average="macro"), "float64")
    scores = SOFTMAX.scores(outputs)
    expected = np.mean([roc_auc_score(targets == k, scores[:, k]) for k in range(5)])
    assert_close(metrics["auc"]["value"], expected, "float64")


def test_the_accuracy_interval_is_wilsons():
    targets = np.zeros(50, np.int64)
    answers = np.where(np.arange(50) < 45, 0, 1)
    accuracy = task_metrics(SOFTMAX, 9.0 * np.eye(5)[answers], targets)["accuracy"]
    p, n, z = 0.9, 50, 1.959963984540054
    root = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = [(p + z**2 / (2 * n) + sign * root) / (1 + z**2 / n) for sign in (-1, 1)]
    assert_close([accuracy["low"], accuracy["high"]], expected, "float64")


def test_a_perfect_score_of_few_records_is_not_certain():
    targets = np.arange(5)
    metrics = task_metrics(SOFTMAX, logits(targets, 5, 99.0), targets)
    for score in (metrics[name] for name in ("accuracy", "balanced_accuracy", "macro_f1", "auc")):
        assert score["value"] == score["high"] == 1.0
        assert score["low"] < 0.6


def test_the_auc_error_of_two_classes_is_that_of_delong():
    rng = np.random.default_rng(2)
    positive = rng.random(4000) < 0.4
    scores = rng.normal(size=4000) + positive
    found = macro_auc(np.stack([-scores, scores], axis=1), np.stack([~positive, positive], axis=1))
    better = (scores[positive][:, None] > scores[~positive]).astype(float)  # [positives, negatives]
    error = math.sqrt(better.mean(1).var() / positive.sum() + better.mean(0).var() / (~positive).sum())
    assert found.value == pytest.approx(better.mean())
    assert math.sqrt(found.variance) == near(error, "smoothed")


def test_what_the_records_do_not_define_is_none():
    metrics = task_metrics(SOFTMAX, logits(np.zeros(6, np.int64), 5, 1.0), np.zeros(6, np.int64))
    assert metrics["auc"] == {"value": None, "low": None, "high": None}
    assert metrics["absent"] == ["b", "c", "d", "e"]
    metrics = task_metrics(SOFTMAX, np.zeros((0, 5)), np.zeros(0, np.int64))
    assert metrics["n"] == 0
    assert set(values(metrics).values()) == {None}
    assert metrics["absent"] == list(LABELS)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_intervals_hold_their_value_and_are_json_without_nan(n):
    rng = np.random.default_rng(n)
    targets = classes(n)
    found = [
        task_metrics(SOFTMAX, logits(targets, 5, 1.0), targets),
        task_metrics(Sigmoid(LABELS, (0.5,) * 5), rng.normal(size=(n, 5)), (rng.random((n, 5)) < 0.4).astype(float)),
        task_metrics(Destandardize(3.0, 2.0), rng.normal(size=(n, 1)), rng.normal(size=n) + 3),
    ]
    for metrics in found:
        json.dumps(metrics, allow_nan=False)
        for score in (metrics[name] for name in values(metrics)):
            if score["low"] is not None:
                assert type(score["value"]) is type(score["low"]) is type(score["high"]) is float
                assert score["low"] <= score["value"] <= score["high"]


def test_multilabel_agrees_with_scikit_learn():
    rng = np.random.default_rng(3)
    targets = (rng.random((120, 5)) < 0.3).astype(np.float32)
    outputs = (rng.normal(size=(120, 5)) + 1.5 * targets).astype(np.float32)
    decoding = Sigmoid(LABELS, (0.3, 0.4, 0.5, 0.6, 0.7))
    answers = decoding.scores(outputs) >= np.array(decoding.thresholds)
    expected = {
        "accuracy": accuracy_score(targets, answers),
        "macro_f1": f1_score(targets, answers, average="macro"),
        "micro_f1": f1_score(targets, answers, average="micro"),
        "auc": roc_auc_score(targets, decoding.scores(outputs), average="macro"),
        "average_precision": average_precision_score(targets, decoding.scores(outputs)),
    }
    metrics = task_metrics(decoding, outputs, targets)
    assert list(values(metrics)) == list(expected)
    assert_close(list(values(metrics).values()), list(expected.values()), "float64")
    assert metrics["n"] == 120


def test_a_label_that_is_neither_given_nor_true_does_not_enter_the_macro_f1():
    targets = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]])
    metrics = task_metrics(Sigmoid(("a", "b", "c"), (0.5,) * 3), np.where(targets, 4.0, -4.0), targets)
    assert metrics["macro_f1"]["value"] == 1.0
    assert metrics["absent"] == ["c"]


def test_regression_agrees_with_scikit_learn():
    rng = np.random.default_rng(4)
    targets = (1e6 + 50 * rng.normal(size=80)).astype(np.float64)
    outputs = ((targets - 1e6) / 50 + rng.normal(size=80) / 3)[:, None]
    decoding = Destandardize(1e6, 50.0)
    predicted = decoding.scores(outputs)[:, 0]
    metrics = task_metrics(decoding, outputs, targets)
    assert metrics["n"] == 80
    expected = [
        root_mean_squared_error(targets, predicted),
        mean_absolute_error(targets, predicted),
        r2_score(targets, predicted),
    ]
    assert list(values(metrics)) == ["rmse", "mae", "r2"]
    assert_close(list(values(metrics).values()), expected, "sums")  # of numbers near 1e6


def test_r2_of_equal_targets_is_none():
    metrics = task_metrics(Destandardize(0.0, 1.0), np.array([[1.0], [3.0]]), np.array([2.0, 2.0]))
    assert values(metrics) == {"rmse": 1.0, "mae": 1.0, "r2": None}
    assert values(task_metrics(Destandardize(0.0, 1.0), np.zeros((0, 1)), np.zeros(0))) == {
        "rmse": None,
        "mae": None,
        "r2": None,
    }


@pytest.mark.parametrize("n", [1, 2, 4, 5])
def test_fewer_than_five_numbers_have_an_error_but_no_interval(n):
    metrics = task_metrics(Destandardize(0.0, 1.0), np.arange(n)[:, None] ** 2.0, -np.arange(n))
    assert metrics["rmse"]["value"] == pytest.approx(math.sqrt(np.mean((np.arange(n) ** 2 + np.arange(n)) ** 2)))
    for name in ("rmse", "mae"):
        assert (metrics[name]["low"] is None) == (metrics[name]["high"] is None) == (n < 5)


@pytest.mark.parametrize("size", [0.0, 0.5, 3.0])
def test_errors_that_are_all_alike_have_no_interval(size):
    targets = np.linspace(-1, 1, 20)
    metrics = task_metrics(Destandardize(0.0, 1.0), (targets + size)[:, None], targets)
    assert metrics["rmse"]["value"] == pytest.approx(size)
    assert metrics["rmse"]["low"] is metrics["mae"]["high"] is None


def coverage(simulate, truth: dict[str, float], *, times: int = 200) -> dict[str, float]:
    """How often the interval of each score holds its true value."""
    found = [simulate(np.random.default_rng(seed)) for seed in range(times)]
    return {name: np.mean([m[name]["low"] <= value <= m[name]["high"] for m in found]) for name, value in truth.items()}


def test_intervals_of_classification_hold_the_truth_about_95_times_in_100():
    """A model that is right with probability .8, whatever the class, and otherwise uniformly wrong."""

    def simulate(rng, n=150, right=0.8):
        targets = rng.integers(5, size=n)
        answers = np.where(rng.random(n) < right, targets, (targets + rng.integers(1, 5, size=n)) % 5)
        return task_metrics(SOFTMAX, 2.0 * np.eye(5)[answers], targets)

    # of one class against the rest, with the answer as the only score: (sensitivity + specificity) / 2
    truth = {"accuracy": 0.8, "balanced_accuracy": 0.8, "macro_f1": 0.8, "auc": (0.8 + 0.95) / 2}
    for name, share in coverage(simulate, truth).items():
        assert 0.91 <= share <= 0.99, name


def test_intervals_of_multilabel_hold_the_truth_about_95_times_in_100():
    """Each label true half the time and answered right with probability .8: every F1 is .8."""

    def simulate(rng, n=100):
        targets = rng.random((n, 4)) < 0.5
        answers = targets ^ (rng.random((n, 4)) < 0.2)
        return task_metrics(Sigmoid(tuple("abcd"), (0.5,) * 4), np.where(answers, 2.0, -2.0), targets)

    truth = {"accuracy": 0.8**4, "macro_f1": 0.8, "micro_f1": 0.8, "auc": 0.8}
    for name, share in coverage(simulate, truth).items():
        assert 0.91 <= share <= 0.99, name


def test_intervals_of_regression_hold_the_truth_about_95_times_in_100():
    """Normal targets of deviation 1, normal errors of deviation .5."""

    def simulate(rng, n=100):
        targets = rng.normal(size=n)
        return task_metrics(Destandardize(0.0, 1.0), (targets + 0.5 * rng.normal(size=n))[:, None], targets)

    truth = {"rmse": 0.5, "mae": 0.5 * math.sqrt(2 / math.pi), "r2": 0.75}
    for name, share in coverage(simulate, truth).items():
        assert 0.90 <= share <= 0.99, name


def test_the_same_answers_give_the_same_intervals():
    targets = classes(50)
    outputs = logits(targets, 5, 1.0)
    assert task_metrics(SOFTMAX, outputs, targets) == task_metrics(SOFTMAX, outputs, targets)


@pytest.mark.parametrize(
    "decoding, outputs, targets, error, match",
    [
        (SOFTMAX, np.zeros((3, 5)), np.zeros(2, np.int64), ValueError, "3 outputs for 2 targets"),
        (SOFTMAX, np.zeros((2, 5)), np.array([0, 5]), ValueError, "go from 0 to 5, but there are 5 labels"),
        (SOFTMAX, np.zeros((2, 5)), np.array([-1, 1]), ValueError, "go from -1 to 1"),
        (
            SOFTMAX,
            np.array([[0.0] * 5, [np.nan] * 5]),
            np.zeros(2, np.int64),
            ValueError,
            "1 of 2 records are not finite",
        ),
        (Sigmoid(("a",), (0.5,)), np.zeros((2, 1)), np.zeros(2), ValueError, r"targets are \[2\] but outputs \[2, 1\]"),
        (Destandardize(0.0, 1.0), np.zeros((2, 1)), np.array([1.0, np.nan]), ValueError, "one finite number a record"),
    ],
)
def test_what_cannot_be_scored_says_why(decoding, outputs, targets, error, match):
    with pytest.raises(error, match=match):
        task_metrics(decoding, outputs, targets)


def score(value: float | None) -> dict:
    return {"value": value, "low": None, "high": None}


METRICS = {
    "product": {"n": 9, "accuracy": score(0.9), "macro_f1": score(0.5), "absent": [], "unknown": {"value": 3}},
    "tags": {"n": 9, "accuracy": score(0.1), "macro_f1": score(0.6), "micro_f1": score(0.7)},
    "price": {"n": 9, "rmse": score(2.0), "mae": score(1.5), "r2": score(0.3)},
}


TYPES = {
    "product": task_type("classification"),
    "tags": task_type("multilabel"),
    "price": task_type("regression"),
    "match": task_type("contrastive"),
}


def test_the_mean_takes_each_types_main_score():
    assert_close(selection_score(METRICS, "mean", TYPES), (0.9 + 0.6 + 0.3) / 3, "float64")


def test_the_mean_leaves_out_tasks_without_a_score():
    assert (
        selection_score({**METRICS, "tags": {"macro_f1": score(None), "micro_f1": score(None)}}, "mean", TYPES) == 0.6
    )


def test_one_metric_of_one_task_can_choose_and_errors_count_negative():
    assert selection_score(METRICS, "product.macro_f1", TYPES) == 0.5
    assert selection_score(METRICS, "price.rmse", TYPES) == -2.0
    assert selection_score(METRICS, "price.mae", TYPES) == -1.5


@pytest.mark.parametrize("metric", ["product.acuracy", "produt.accuracy"])
def test_an_unknown_metric_gets_a_suggestion(metric):
    with pytest.raises(LookupError, match=r"did you mean 'product\.accuracy'\? There are mean, product"):
        selection_score(METRICS, metric, TYPES)


@pytest.mark.parametrize("metric", ["product.n", "product.absent", "product.unknown", "product", "", "zzz"])
def test_what_is_no_score_cannot_choose(metric):
    with pytest.raises(LookupError, match="there is no metric"):
        selection_score(METRICS, metric, TYPES)


def test_a_score_that_is_not_defined_cannot_choose():
    with pytest.raises(ValueError, match=r"product\.auc: not defined on these records.*data\.valid"):
        selection_score({"product": {"n": 3, "accuracy": score(1.0), "auc": score(None)}}, "product.auc", TYPES)
    with pytest.raises(ValueError, match=r"price\.r2: not defined"):
        selection_score({"price": {"r2": score(None)}}, "mean", TYPES)


def test_multilabel_labels_that_training_lacked_are_never_right_and_listed():
    decoding = Sigmoid(("new", "sale"), (0.5, 0.5))
    outputs = np.array([[3.0, -3.0], [3.0, -3.0]])
    targets = np.array([[1, 0, 0], [1, 0, 1]])
    metrics = task_metrics(decoding, outputs, targets, unknown=("gift",))
    assert metrics["accuracy"]["value"] == 0.5
    assert metrics["unknown"] == {"gift": 1}
    assert metrics["macro_f1"]["value"] == pytest.approx(
        f1_score(targets, [[1, 0, 0], [1, 0, 0]], average="macro", labels=[0, 2], zero_division=0)
    )


# --- pairs ---

PAIR = PairedEmbeddings(("image", "text"))


def embeddings(n: int, signal: float) -> np.ndarray:
    """Both sides of n records, [n 16], each of length 1; a larger signal makes partners more alike."""
    rng = np.random.default_rng(0)
    common, first, second = rng.normal(size=(3, n, 8))
    sides = [signal * common + noise for noise in (first, second)]
    return np.concatenate([side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides], axis=1)


def all_different(n: int) -> np.ndarray:
    """Content numbers of n records that share nothing."""
    return np.arange(2 * n).reshape(n, 2)


@pytest.mark.parametrize("n", [2, 40, 600])  # 600: more than are compared at a time
def test_top1_is_the_share_of_records_whose_partner_is_the_nearest_in_both_directions(n):
    outputs = embeddings(n, 1.0)
    first, second = outputs[:, :8], outputs[:, 8:]
    right = sum(int(np.argmax(second @ first[i]) == i) + int(np.argmax(first @ second[i]) == i) for i in range(n)) / 2
    metrics = task_metrics(PAIR, outputs, all_different(n))
    assert metrics["n"] == n
    assert_close(metrics["top1"]["value"], right / n, "float64")
    assert_close([metrics["top1"]["low"], metrics["top1"]["high"]], wilson_interval(right, n), "float64")


def test_embeddings_that_are_all_equal_find_no_more_than_guessing_does():
    metrics = task_metrics(PAIR, np.ones((50, 4)), all_different(50))
    assert_close(metrics["top1"]["value"], 1 / 50, "float64")


@pytest.mark.parametrize("n", [3, 600])
def test_the_partner_of_a_record_with_the_same_text_is_right_too(n):
    contents, texts = all_different(2 * n), embeddings(n, 1.0)[:, 8:]
    contents[n:, 1] = contents[:n, 1]  # record i + n has the text of record i, and another photo
    photos = np.concatenate([texts, texts[::-1]])
    outputs = np.concatenate([photos, np.concatenate([texts, texts])], axis=1)
    # the first n photos lie on their text; of the others only a middle one does; each text finds a photo of its own
    right_photos = n + sum(int(i == n - 1 - i) for i in range(n))
    nearest = [{j for j in range(2 * n) if np.array_equal(photos[j], text)} for text in texts]
    right_texts = 2 * sum(len(found & {i, i + n}) / len(found) for i, found in enumerate(nearest))
    metrics = task_metrics(PAIR, outputs, contents)
    assert_close(metrics["top1"]["value"], (right_photos + right_texts) / 2 / (2 * n), "float64")


def test_pairs_are_scored_with_the_content_of_both_inputs():
    with pytest.raises(ValueError, match=r"targets are \[4\]; give the content numbers of both inputs"):
        task_metrics(PAIR, np.ones((4, 4)), np.ones(4, bool))


def test_top1_of_one_record_is_not_defined():
    for n in (0, 1):
        metrics = task_metrics(PAIR, np.ones((n, 4)), all_different(n))
        assert metrics == {"n": n, "top1": {"value": None, "low": None, "high": None}}


def test_top1_stands_for_its_task_in_the_mean():
    pairs = task_metrics(PAIR, embeddings(40, 1.0), all_different(40))
    metrics = {"match": pairs, "price": {"rmse": {"value": 2.0}, "r2": {"value": 0.5}}}
    assert_close(selection_score(metrics, "mean", TYPES), (pairs["top1"]["value"] + 0.5) / 2, "float64")
    assert selection_score(metrics, "match.top1", TYPES) == pairs["top1"]["value"]


@pytest.mark.parametrize("unit", [1e-300, 1e-200, 1e-160, 1e160, 1e200, 1e299])
def test_errors_of_any_size_are_scored_as_those_of_the_same_numbers_in_another_unit(unit):
    rng = np.random.default_rng(0)
    targets, outputs = rng.normal(size=40), rng.normal(size=(40, 1))
    plain = task_metrics(Destandardize(0.0, 1.0), outputs, targets)
    scaled = task_metrics(Destandardize(0.0, unit), outputs, targets * unit)
    for name, factor in (("rmse", unit), ("mae", unit), ("r2", 1.0)):
        for part in ("value", "low", "high"):
            assert_close(scaled[name][part] / factor, plain[name][part], "float64")
