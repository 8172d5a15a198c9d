"""E13 (slow): how often the guard gives the right verdict, and how often its intervals hold the true gap."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from benchmarks.experiments.common import (
    CONVERGED,
    Finding,
    Network,
    SourceTask,
    digits,
    halves,
    probe_accuracy,
    source_net,
)
from multimodal.transfer.folds import repeated_folds
from multimodal.transfer.guard.arms import FOLDS, REPEATS, probe_scores
from multimodal.transfer.guard.gaps import Gaps, paired_gaps, record_scores, strongest_baseline
from multimodal.transfer.guard.verdict import Verdict, judge
from multimodal.transfer.probes.logistic import fit_softmax

SEEDS = 20
LABELS = 200
REPETITIONS = 60


def e13() -> list[Finding]:
    """Verdicts on converged source nets, 200 labels, 20 seeds; coverage of layer 1 and of random encoders, 60 draws."""
    return [*_verdicts(), *_coverage()]


@dataclass(frozen=True)
class _Case:
    """A source task and a target task, and the verdict that is true of them."""

    name: str
    source: SourceTask
    target: Callable[[np.ndarray], np.ndarray]
    """Digits of the target records -> their classes."""
    truth: str


CASES = (
    _Case("0-4 -> 5-9", "0-4", lambda digits: digits - 5, "negative"),
    _Case("parity -> 10 classes", "parity", lambda digits: digits, "negative"),
    _Case("10 classes -> parity", "10 classes", lambda digits: digits % 2, "positive"),
)


def _verdicts() -> list[Finding]:
    found, wrong, wrong_of_strongest = [], 0, 0
    reported = []
    for case in CASES:
        pairs = [_judge(case, seed) for seed in range(SEEDS)]
        kinds, strongest = ([verdict.kind for verdict in column] for column in zip(*pairs, strict=True))
        gap = float(np.mean([verdict.gap for verdict, _ in pairs]))
        opposite = "positive" if case.truth == "negative" else "negative"
        wrong, wrong_of_strongest = wrong + kinds.count(opposite), wrong_of_strongest + strongest.count(opposite)
        told = f"{case.name}, against raw pixels (mean gap {gap:+.3f}): {case.truth} verdicts of {SEEDS}"
        found.append(Finding(told, 16, kinds.count(case.truth), 0, "at least"))
        gap = float(np.mean([verdict.gap for _, verdict in pairs]))
        told = f"{case.name}, against the stronger of raw and random (mean gap {gap:+.3f})"
        reported.append(Finding(f"{told}: {case.truth} verdicts of {SEEDS}", None, strongest.count(case.truth), 0))
    total = SEEDS * len(CASES)
    found.append(Finding(f"against raw pixels: wrong sign of {total}", 0, wrong, 0, "at most"))
    told = f"against the stronger of raw and random: wrong sign of {total}"
    return [*found, *reported, Finding(told, None, wrong_of_strongest, 0)]


def _judge(case: _Case, seed: int) -> tuple[Verdict, Verdict]:
    """The verdict against raw pixels, and against the stronger of these and a random encoder."""
    pixels, labels = digits()
    there = np.flatnonzero(labels >= 5) if case.source == "0-4" else halves(seed)[1]  # none of the source's records
    rows = np.random.default_rng(seed).permutation(there)[:LABELS]
    targets = case.target(labels[rows])
    net = source_net(case.source, seed, steps=CONVERGED)
    _check_convergence(net, case, seed)
    fresh = Network(int(targets.max()) + 1, seed=1000 + seed)
    parts = repeated_folds(targets, folds=FOLDS, repeats=REPEATS, seed=seed)
    ours, raw, random = (
        probe_scores(features, targets, parts)
        for features in (net.features(pixels[rows]), pixels[rows], fresh.features(pixels[rows]))
    )
    strongest = strongest_baseline({"raw": raw, "random": random}, parts)
    return judge(paired_gaps(ours, raw, parts)), judge(paired_gaps(ours, strongest, parts))


@torch.no_grad()
def _check_convergence(net: Network, case: _Case, seed: int) -> None:
    pixels, labels = digits()
    rows = np.flatnonzero(labels < 5) if case.source == "0-4" else halves(seed)[0]
    targets = labels[rows] % 2 if case.source == "parity" else labels[rows]
    loss = float(nn.functional.cross_entropy(net(torch.from_numpy(pixels[rows]).float()), torch.from_numpy(targets)))
    if loss > 1e-3:
        raise RuntimeError(
            f"{case.name}, seed {seed}: the source loss is {loss:.2g} after {CONVERGED} steps, not below .001"
        )


def _coverage() -> list[Finding]:
    pixels, labels = digits()
    high = np.flatnonzero(labels >= 5)
    source = source_net("0-4", 0)
    random = [Network(5, seed=seed).features(pixels[high], 1) for seed in (1, 2)]
    pairs = {
        "harmful layer 1 against a random one": (source.features(pixels[high], 1), random[0]),
        "two random encoders": (random[0], random[1]),
    }
    found = []
    for name, (features, baseline) in pairs.items():
        for n in (50, 200):
            found += _calibration(f"{name}, {n} labels", features, baseline, labels[high] - 5, n)
    return found


def _calibration(name: str, features: np.ndarray, baseline: np.ndarray, labels: np.ndarray, n: int) -> list[Finding]:
    truths, verdicts = [], []
    for seed in range(REPETITIONS):
        rows = np.random.default_rng(seed).permutation(len(labels))
        train, rest = rows[:n], rows[n:]
        seen = train[: int(0.8 * n)]  # what each fold trains on
        truths.append(probe_accuracy(features, labels, seen, rest) - probe_accuracy(baseline, labels, seen, rest))
        verdicts.append(judge(_gaps(features[train], baseline[train], labels[train], seed)))
    truth = float(np.mean(truths))
    corrected = np.mean([verdict.interval[0] <= truth <= verdict.interval[1] for verdict in verdicts])
    bootstrap = np.mean([verdict.bootstrap[0] <= truth <= verdict.bootstrap[1] for verdict in verdicts])
    opposite = "positive" if truth < 0 else "negative"
    wrong = np.mean([verdict.kind == opposite for verdict in verdicts])
    flagged = np.mean([verdict.kind != "inconclusive" for verdict in verdicts])
    told = f"true gap {truth:+.3f}, a verdict in {flagged:.0%}"
    return [
        Finding(f"{name} ({told}): corrected t covers", 0.95, float(corrected), 0.07),
        Finding(f"{name}: bootstrap covers", 0.86, float(bootstrap), 0.12),
        Finding(f"{name}: wrong sign", 0.02, float(wrong), 0, "at most"),
    ]


def _gaps(features: np.ndarray, baseline: np.ndarray, labels: np.ndarray, seed: int) -> Gaps:
    parts = repeated_folds(labels, folds=5, repeats=3, seed=seed)

    def arm(x: np.ndarray) -> np.ndarray:
        def score(train: np.ndarray, test: np.ndarray) -> np.ndarray:
            return fit_softmax(x[train], labels[train], l2=1e-2, num_classes=5).predict(x[test]) == labels[test]

        return record_scores(score, parts)

    return paired_gaps(arm(features), arm(baseline), parts)
