"""Coverage of the intervals and verdicts: how often 95 % intervals hold the truth. Figures: benchmarks/coverage.md.

python -m benchmarks.coverage [--times 1000] [--only auc]

Every row simulates as many tables as ``--times`` says. Where the truth has no formula it is the mean of the score over
these tables. The last column is the mean half width / 1.96 over the deviation of the score between tables: 1 is exact.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm

from multimodal.console import print_line
from multimodal.decoding import Destandardize, Sigmoid, Softmax
from multimodal.metrics import retrieval_metrics, task_metrics
from multimodal.metrics.calibration import reliability
from multimodal.transfer.guard.arms import compare_arms
from multimodal.transfer.guard.trained import compare_trained

Simulate = Callable[[np.random.Generator], dict[str, Any]]


class Scenario(NamedTuple):
    """Tables of one kind, and the scores to look at with their true values; None: the mean over the tables."""

    name: str
    simulate: Simulate
    truth: dict[str, float | None]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    arguments = parser.parse_args()
    print_line("| tables | score | truth | coverage | width |\n|---|---|---|---|---|")
    for scenario in (*_ranked(), *_labelled(), *_retrieval(), *_regression()):
        if arguments.only in scenario.name:
            _show(scenario, arguments.times)
    for n in (50, 200, 1000):
        if arguments.only in f"ECE: {n} records":
            found = [_calibration_error(np.random.default_rng(seed), n) for seed in range(arguments.times)]
            print_line(f"| ECE: {n} records of a perfect model | {np.mean(found):.3f} |")
    print_line("\n| no difference between arms | claims one |\n|---|---|")
    for name, claims in _verdicts():
        if arguments.only in name:
            found = [claims(np.random.default_rng(seed)) for seed in range(arguments.times)]
            print_line(f"| {name} | {np.mean(found):.3f} |")


def _calibration_error(rng: np.random.Generator, n: int) -> float:
    stated = rng.random(n)
    return reliability(stated, rng.random(n) < stated).error


def _show(scenario: Scenario, times: int) -> None:
    found = [scenario.simulate(np.random.default_rng(seed)) for seed in range(times)]
    for score, known in scenario.truth.items():
        value, low, high = np.array(
            [[one[score][part] for part in ("value", "low", "high")] for one in found if one[score]["low"] is not None]
        ).T
        truth = value.mean() if known is None else known
        width = (high - low).mean() / 3.92 / value.std()
        held = ((low <= truth) & (truth <= high)).mean()
        print_line(f"| {scenario.name} | {score} | {truth:.3f} | {held:.3f} | {width:.2f} |")


def _multilabel(logits: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    labels = tuple(map(str, range(truth.shape[1])))
    return task_metrics(Sigmoid(labels, (0.5,) * len(labels)), logits, truth.astype(np.float64))


def _classes(logits: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    return task_metrics(Softmax(tuple(map(str, range(logits.shape[1])))), logits, truth)


def _ranked() -> Iterator[Scenario]:
    """AUC with few positives."""
    for positives in (1, 2, 3, 5, 10, 40):

        def normal(rng: np.random.Generator, count: int = positives) -> dict[str, Any]:
            truth = np.arange(200)[:, None] < count
            return _multilabel(rng.normal(size=(200, 1)) + 1.5 * truth, truth)

        yield Scenario(
            f"auc: {positives} positives of 200",
            normal,
            {"auc": float(norm.cdf(1.5 / np.sqrt(2))), "average_precision": None},
        )
    for positives in (5, 10, 40):

        def bimodal(rng: np.random.Generator, count: int = positives) -> dict[str, Any]:
            truth = np.arange(200)[:, None] < count
            sides = np.where(rng.random((200, 1)) < 0.8, 10.0, -10.0)
            return _multilabel(rng.normal(size=(200, 1)) + truth * sides, truth)

        yield Scenario(
            f"auc: {positives} positives of 200, one in five far below",
            bimodal,
            {"auc": 0.8, "average_precision": None},
        )
    for labels, positives, n in ((6, 2, 100), (6, 20, 100), (20, 1, 60)):

        def together(rng: np.random.Generator, c: int = labels, count: int = positives, n: int = n) -> dict[str, Any]:
            truth = rng.permuted(np.arange(n)[:, None] < np.full((1, c), count), axis=0)
            return _multilabel(0.7 * rng.normal(size=(n, 1)) + 0.7 * rng.normal(size=(n, c)) + truth, truth)

        yield Scenario(
            f"auc: {labels} labels with {positives} positives of {n}",
            together,
            {"auc": None, "average_precision": None},
        )
    for classes, each, gap in ((40, 1, 3.0), (40, 2, 1.0), (5, 2, 1.5), (5, 10, 1.0), (2, 50, 1.0)):
        yield _softmax(f"auc: {classes} classes, {each} records each", classes, each, gap, ("auc", "average_precision"))


def _softmax(name: str, classes: int, each: int, gap: float, scores: tuple[str, ...]) -> Scenario:
    truth = np.repeat(np.arange(classes), each)

    def simulate(rng: np.random.Generator) -> dict[str, Any]:
        return _classes(rng.normal(size=(len(truth), classes)) + gap * np.eye(classes)[truth], truth)

    return Scenario(name, simulate, dict.fromkeys(scores))


def _labelled() -> Iterator[Scenario]:
    """Balanced accuracy and F1 with few records of a class."""
    for classes, each, gap in ((40, 1, 3), (40, 2, 3), (40, 3, 3), (5, 1, 2), (5, 2, 2), (5, 5, 2), (5, 30, 2)):
        name = f"labels: {classes} classes, {each} records each"
        yield _softmax(name, classes, each, gap, ("balanced_accuracy", "macro_f1"))
    for sizes, rates in (((50, 20, 10, 5, 2, 1), (0.95, 0.9, 0.8, 0.7, 0.6, 0.5)), ((950, 50), (0.98, 0.6))):
        truth = np.repeat(np.arange(len(sizes)), sizes)

        def skewed(
            rng: np.random.Generator, truth: np.ndarray = truth, rates: tuple[float, ...] = rates
        ) -> dict[str, Any]:
            wrong = (truth + rng.integers(1, len(rates), len(truth))) % len(rates)
            answers = np.where(rng.random(len(truth)) < np.array(rates)[truth], truth, wrong)
            return _classes(5.0 * np.eye(len(rates))[answers], truth)

        known = {"balanced_accuracy": float(np.mean(rates)), "macro_f1": None}
        yield Scenario(f"labels: classes of {', '.join(map(str, sizes))} records", skewed, known)
    for labels, n, share in ((6, 100, 0.02), (6, 100, 0.2), (20, 60, 0.03), (3, 40, 0.3)):

        def tags(rng: np.random.Generator, c: int = labels, n: int = n, share: float = share) -> dict[str, Any]:
            truth = rng.random((n, c)) < share
            truth[0, 0] = True
            answers = truth ^ (rng.random((n, c)) < np.where(truth, 0.3, share / 2))
            return _multilabel(np.where(answers, 3.0, -3.0), truth)

        name = f"labels: {labels} tags, each of {share:.0%} of {n} records"
        yield Scenario(name, tags, dict.fromkeys(("macro_f1", "micro_f1")))


def _retrieval() -> Iterator[Scenario]:
    """Embeddings around the centre of their label."""
    for n, labels, noise in ((100, 10, 1.5), (100, 10, 0.8), (300, 60, 1.5), (40, 20, 1.5), (30, 3, 1.5)):

        def simulate(rng: np.random.Generator, n: int = n, c: int = labels, noise: float = noise) -> dict[str, Any]:
            own = rng.integers(0, c, n)
            vectors = np.random.default_rng(1).normal(size=(c, 16))[own] + noise * rng.normal(size=(n, 16))
            return retrieval_metrics(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), own)

        name = f"retrieval: {n} records of {labels} labels, noise {noise}"
        yield Scenario(name, simulate, dict.fromkeys(("recall_at_1", "recall_at_5", "map")))


_ERRORS: dict[str, tuple[Callable[[np.random.Generator, int], np.ndarray], float, float]] = {
    "normal": (lambda rng, n: rng.normal(size=n), 1.0, np.sqrt(2 / np.pi)),
    "t(5)": (lambda rng, n: rng.standard_t(5, n), 5 / 3, 0.9490),
    "t(3)": (lambda rng, n: rng.standard_t(3, n), 3.0, 2 * np.sqrt(3) / np.pi),
    "5 % of five times the size": (
        lambda rng, n: rng.normal(size=n) * np.where(rng.random(n) < 0.05, 5, 1),
        2.2,
        1.2 * np.sqrt(2 / np.pi),
    ),
}
"""Name -> draws, variance, mean size (of t(5): 2 sqrt(5) gamma(3) / (4 sqrt(pi) gamma(2.5)))."""


def _regression() -> Iterator[Scenario]:
    """Errors with light and heavy tails; targets of deviation 3."""
    for name, (draw, variance, size) in _ERRORS.items():
        for n in (10, 30, 100, 400):

            def simulate(rng: np.random.Generator, n: int = n, draw: Any = draw) -> dict[str, Any]:
                targets = 3 * rng.normal(size=n)
                return task_metrics(Destandardize(0.0, 1.0), (targets + draw(rng, n))[:, None], targets)

            truth: dict[str, float | None] = {"rmse": np.sqrt(variance), "mae": size, "r2": 1 - variance / 9}
            yield Scenario(f"numbers: {n}, errors {name}", simulate, truth)


def _verdicts() -> Iterator[tuple[str, Callable[[np.random.Generator], bool]]]:
    """Whether two equal arms are told apart."""
    centres = np.random.default_rng(7).normal(size=(2, 8)) * 3 / np.sqrt(8)
    for groups, size, repeats in ((10, 12, 3), (10, 12, 1), (20, 1, 3), (40, 6, 3), (60, 1, 3), (200, 1, 3)):

        def claims(rng: np.random.Generator, groups: int = groups, size: int = size, repeats: int = repeats) -> bool:
            group = np.repeat(np.arange(groups), size)
            labels = rng.permutation(np.arange(groups) % 2)[group]

            def arm() -> np.ndarray:
                shared = rng.normal(size=(groups, 8))[group]  # what the records of a group have in common
                return np.asarray(centres[labels] + shared + 0.3 * rng.normal(size=(len(labels), 8)))

            found = compare_arms({"probe": arm(), "raw": arm()}, labels, groups=group, repeats=repeats)
            return bool(found["verdict"] != "inconclusive")

        yield f"verdict: {groups} groups of {size}, {repeats} repeats", claims
    for arms, n in ((1, 100), (2, 100), (4, 100), (8, 100), (8, 400)):

        def below(rng: np.random.Generator, arms: int = arms, n: int = n) -> bool:
            right = {name: (rng.random(n) < 0.7).astype(float) for name in ["model", *map(str, range(arms))]}
            return any(gap["verdict"] != "cannot be told" for gap in compare_trained(right)["gaps"].values())

        yield f"trained: {arms} probes, {n} records", below


if __name__ == "__main__":
    main()
