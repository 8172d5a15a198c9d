"""Fitted thresholds against every threshold there is."""

import numpy as np
import pytest
from sklearn.metrics import f1_score
from support.assertions import assert_close

import multimodal as mm
from multimodal.decoding import Sigmoid, Softmax
from multimodal.metrics.thresholds import best_threshold

RNG = np.random.default_rng(0)
CASES = {
    "balanced": (RNG.random(80), RNG.random(80) < 0.5),
    "rare": (RNG.random(200), RNG.random(200) < 0.05),
    "common": (RNG.random(60), RNG.random(60) < 0.9),
    "many ties": (RNG.integers(1, 6, 90) / 6, RNG.random(90) < 0.3),
    "all alike": (np.full(10, 0.4), np.arange(10) < 3),
    "certain": (np.array([0.0, 0.0, 1.0, 1.0, 0.5]), np.array([False, True, True, False, True])),
    "one record": (np.array([0.2]), np.array([True])),
    "separated": (np.array([0.1, 0.2, 0.4, 0.9]), np.array([False, False, True, True])),
}
COSTS = [(1.0, 1.0), (1.0, 9.0), (9.0, 1.0), (0.5, 0.1)]


def candidates(probabilities: np.ndarray) -> np.ndarray:
    """A threshold between any two probabilities, below all and above all of them."""
    borders = np.unique(np.concatenate([[0.0], probabilities, [1.0]]))
    return np.concatenate([(borders[1:] + borders[:-1]) / 2, borders[1:]])


@pytest.mark.parametrize("case", CASES)
def test_no_threshold_has_a_larger_f1(case):
    probabilities, truth = CASES[case]
    found = best_threshold(probabilities, truth)
    best = max(f1_score(truth, probabilities >= each, zero_division=0.0) for each in candidates(probabilities))
    assert_close(f1_score(truth, probabilities >= found), best, "float64")


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("case", CASES)
def test_no_threshold_costs_less(case, costs):
    probabilities, truth = CASES[case]

    def cost(threshold: float) -> float:
        given = probabilities >= threshold
        return float(costs[0] * (given & ~truth).sum() + costs[1] * (~given & truth).sum())

    found = best_threshold(probabilities, truth, costs)
    assert found is not None
    # a record that is certain cannot be left out by a threshold below 1
    assert_close(cost(found), min(cost(each) for each in candidates(probabilities) if each < 1), "float64")


def test_the_threshold_lies_halfway_between_the_records_on_both_sides():
    assert_close(best_threshold(*CASES["separated"]), 0.3, "float64")


def test_records_that_define_none_give_none():
    assert best_threshold(np.array([0.2, 0.7]), np.array([False, False])) is None
    assert best_threshold(np.zeros(0), np.zeros(0, bool), (1.0, 1.0)) is None


def test_a_label_that_no_validation_record_has_keeps_its_threshold():
    task = mm.Task(type="multilabel", threshold="auto")
    decoding = Sigmoid(("a", "b"), (0.5, 0.5))
    scores, targets = np.array([[0.1, 0.9], [0.3, 0.2]]), np.array([[0, 0], [1, 0]])
    fitted = task.kind.with_thresholds(decoding, task, scores, targets)
    assert isinstance(fitted, Sigmoid)
    assert_close(fitted.thresholds, [0.2, 0.5], "float64")


@pytest.mark.parametrize("positive", ["bad", "good"])
def test_a_threshold_is_that_of_the_positive_class(positive):
    scores, targets = np.array([[0.6, 0.4], [0.7, 0.3], [0.9, 0.1]]), np.array([0, 1, 0])
    column = ("bad", "good").index(positive)
    task = mm.Task(threshold="auto", positive=positive)
    decoding = task.kind.configured(Softmax(("bad", "good")), task)
    fitted = task.kind.with_thresholds(decoding, task, scores, targets)
    assert isinstance(fitted, Softmax)
    assert (fitted.positive, fitted.threshold) == (positive, best_threshold(scores[:, column], targets == column))
    assert task.kind.configured(fitted, task) == fitted  # as a finished run reads it again


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0.3, "min_probability": 0.6}, "min_probability and threshold both say when a class is given"),
        ({"threshold": "auto", "min_probability": 0.6}, "leave one of them out"),
        ({"threshold": 1.0}, "less than 1"),
        ({"threshold": "best"}, "threshold"),
        ({"costs": {"false_positive": 2.0}}, "costs belongs to threshold: auto, and threshold is 0.5"),
        ({"threshold": "auto", "costs": {"false_positive": 0.0}}, "greater than 0"),
        ({"type": "regression", "positive": "a"}, "positive belongs to type: classification"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(mm.ConfigError, match=message):
        mm.Job(inputs={"text": {"encoder": "compact/text"}}, tasks={"kind": settings})


@pytest.mark.parametrize(
    ("cells", "settings", "message"),
    [
        (["a", "b", "c"], {"threshold": 0.3}, "has 3 classes, and threshold and positive are for two; leave them out"),
        (["a", "b", "c"], {"positive": "a"}, "has 3 classes"),
        (["a", "b", "c"], {"threshold": "auto"}, "has 3 classes"),
        (["a", "b"], {"positive": "A"}, "has no class 'A', which positive names; there are a and b"),
        (["1", "0"], {"positive": "yes"}, "has no class 'yes'"),
    ],
)
def test_a_threshold_of_other_than_two_classes_is_refused(cells, settings, message):
    task = mm.Task(**settings)
    with pytest.raises(ValueError, match=message):
        task.kind.head_arguments(task, cells)


def test_decodings_tell_when_they_give_a_label():
    assert [*Softmax(("a", "b"), positive="b", threshold=0.25).rules()] == ["b from a probability of 0.25 on"]
    assert [*Softmax(("a", "b")).rules()] == []
    assert [*Sigmoid(("a", "b"), (0.2, 0.5)).rules()] == [
        "a from a probability of 0.2 on",
        "b from a probability of 0.5 on",
    ]
