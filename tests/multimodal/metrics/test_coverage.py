"""How often 95 % intervals hold the truth, on simulated tables where that is hard: few records, heavy tails."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, norm

from multimodal.decoding import Destandardize, Sigmoid, Softmax
from multimodal.metrics import retrieval_metrics, task_metrics

TIMES = 300


def coverages(simulate: Callable[[np.random.Generator], dict[str, Any]], truth: dict[str, float | None]) -> list[float]:
    """Share of ``TIMES`` tables whose interval holds the truth; None: the mean of the score over the tables."""
    found, shares = [simulate(np.random.default_rng(seed)) for seed in range(TIMES)], []
    for name, known in truth.items():
        value, low, high = np.array([[one[name][part] for part in ("value", "low", "high")] for one in found]).T
        expected = value.mean() if known is None else known
        shares.append(float(((low <= expected) & (expected <= high)).mean()))
    return shares


def assert_covers(
    simulate: Callable[[np.random.Generator], dict[str, Any]], truth: dict[str, float | None], nominal: float = 0.95
) -> None:
    """Fails if so few intervals hold the truth as one in 1000 sets of ``TIMES`` intervals of 95 % does."""
    least = binom.ppf(0.001, TIMES, nominal) / TIMES  # .95: .91
    for name, share in zip(truth, coverages(simulate, truth), strict=True):
        assert share >= least, f"{name}: {share:.3f}"


def multilabel(logits: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    labels = tuple(map(str, range(truth.shape[1])))
    return task_metrics(Sigmoid(labels, (0.5,) * len(labels)), logits, truth.astype(float))


def classification(logits: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    return task_metrics(Softmax(tuple(map(str, range(logits.shape[1])))), logits, truth)


@pytest.mark.parametrize("positives, n, gap", [(1, 80, 1.0), (2, 300, 2.0), (4, 60, 0.5), (7, 150, 1.0), (150, 300, 1)])
def test_auc_of_few_positives(positives, n, gap):
    truth = np.arange(n)[:, None] < positives
    assert_covers(
        lambda rng: multilabel(rng.normal(size=(n, 1)) + gap * truth, truth),
        {"auc": float(norm.cdf(gap / math.sqrt(2)))},
    )


@pytest.mark.parametrize("positives, right", [(6, 0.7), (15, 0.8), (30, 0.9)])
def test_auc_where_some_positives_are_far_below_all_negatives(positives, right):
    truth = np.arange(150)[:, None] < positives

    def simulate(rng):
        sides = np.where(rng.random((150, 1)) < right, 10.0, -10.0)
        return multilabel(rng.normal(size=(150, 1)) + truth * sides, truth)

    assert_covers(simulate, {"auc": right})


@pytest.mark.parametrize("labels, positives, n", [(3, 2, 80), (8, 1, 50), (5, 10, 60)])
def test_auc_of_labels_whose_scores_go_together(labels, positives, n):
    def simulate(rng):
        truth = rng.permuted(np.arange(n)[:, None] < np.full((1, labels), positives), axis=0)
        return multilabel(0.8 * rng.normal(size=(n, 1)) + 0.6 * rng.normal(size=(n, labels)) + truth, truth)

    assert_covers(simulate, {"auc": None})


@pytest.mark.parametrize("classes, each, gap", [(25, 1, 2.5), (60, 1, 3.0), (10, 2, 2.0), (4, 3, 1.5), (6, 12, 1.5)])
def test_scores_of_classes_with_few_records(classes, each, gap):
    truth = np.repeat(np.arange(classes), each)
    assert_covers(
        lambda rng: classification(rng.normal(size=(len(truth), classes)) + gap * np.eye(classes)[truth], truth),
        dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1", "auc")),
    )


@pytest.mark.parametrize(
    "sizes, rates",
    [
        ((40, 15, 6, 3, 1), (0.9, 0.9, 0.8, 0.7, 0.6)),
        ((300, 30), (0.97, 0.6)),
        ((12, 12, 12, 12), (0.9, 0.8, 0.7, 0.6)),
    ],
)
def test_balanced_accuracy_of_classes_of_different_sizes(sizes, rates):
    truth = np.repeat(np.arange(len(sizes)), sizes)

    def simulate(rng):
        wrong = (truth + rng.integers(1, len(sizes), len(truth))) % len(sizes)
        answers = np.where(rng.random(len(truth)) < np.array(rates)[truth], truth, wrong)
        return classification(5 * np.eye(len(sizes))[answers], truth)

    assert_covers(simulate, {"balanced_accuracy": float(np.mean(rates)), "macro_f1": None})


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("labels, n, share", [(4, 150, 0.05), (8, 80, 0.1), (3, 60, 0.3)])
def test_f1_of_labels_that_few_records_have(labels, n, share, together):
    """Errors of their own in each label, or the same in all labels of a record."""

    def simulate(rng):
        truth = rng.random((n, labels)) < share
        truth[0] = True
        answers = truth ^ (rng.random((n, 1 if together else labels)) < np.where(truth, 0.25, share / 3))
        return multilabel(np.where(answers, 3.0, -3.0), truth)

    assert_covers(simulate, {"macro_f1": None, "micro_f1": None})


def clusters(rng: np.random.Generator, n: int, labels: int, noise: float) -> dict[str, Any]:
    own = rng.integers(0, labels, n)
    vectors = np.random.default_rng(1).normal(size=(labels, 16))[own] + noise * rng.normal(size=(n, 16))
    return retrieval_metrics(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), own)


RETRIEVAL: dict[str, float | None] = dict.fromkeys(("recall_at_1", "recall_at_5", "map"))


@pytest.mark.parametrize("n, labels, noise", [(40, 4, 1.2), (60, 25, 1.0), (50, 8, 2.5)])
def test_retrieval_among_records_that_are_queries_and_candidates_at_once(n, labels, noise):
    assert_covers(lambda rng: clusters(rng, n, labels, noise), RETRIEVAL)


@pytest.mark.slow
@pytest.mark.parametrize("n, labels, noise", [(150, 12, 1.5), (150, 40, 0.8), (250, 5, 2.0)])
def test_retrieval_in_larger_tables(n, labels, noise):
    assert_covers(lambda rng: clusters(rng, n, labels, noise), RETRIEVAL)


def errors(draw: Callable[[np.random.Generator], np.ndarray], deviation: float) -> Callable[..., dict[str, Any]]:
    """Metrics of targets of the deviation and of errors that are drawn."""

    def simulate(rng: np.random.Generator) -> dict[str, Any]:
        drawn = draw(rng)
        targets = deviation * rng.normal(size=len(drawn))
        return task_metrics(Destandardize(0.0, 1.0), (targets + drawn)[:, None], targets)

    return simulate


@pytest.mark.parametrize("n", [20, 60, 200])
def test_errors_that_are_normal(n):
    truth: dict[str, float | None] = {"rmse": 0.5, "mae": 0.5 * math.sqrt(2 / math.pi), "r2": 0.75}
    # of few records a bootstrap covers less than it says (Efron and Tibshirani, 1993, chapter 14): 93 % do
    assert_covers(errors(lambda rng: 0.5 * rng.normal(size=n), 1.0), truth, nominal=0.95 if n > 100 else 0.93)


@pytest.mark.parametrize("n, degrees", [(100, 5), (150, 6), (300, 5), (80, 8), (200, 10)])
def test_errors_with_heavy_tails(n, degrees):
    """Of Student's t; of few records no interval knows of outliers that none of them is."""
    variance = degrees / (degrees - 2)
    truth: dict[str, float | None] = {"rmse": math.sqrt(variance), "r2": 1 - variance / 16}
    assert_covers(errors(lambda rng: rng.standard_t(degrees, n), 4.0), truth, nominal=0.92)
