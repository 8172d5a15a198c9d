"""E13 (slow): how often the guard's intervals hold the true gap, and how often it gives a wrong sign."""

import numpy as np

from benchmarks.experiments.common import Finding, Network, digits, probe_accuracy, source_net
from multimodal.transfer.folds import repeated_folds
from multimodal.transfer.guard import Gaps, judge, paired_gaps, record_scores
from multimodal.transfer.probes import fit_softmax

REPETITIONS = 60


def e13() -> list[Finding]:
    """0-4 -> 5-9 (harmful) and two random encoders (near null), 50 and 200 labels."""
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
