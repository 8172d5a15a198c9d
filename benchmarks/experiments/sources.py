"""E6: 900 source records beside 5 target records a class, with labels that are right, noisy, shifted or random."""

import numpy as np

from benchmarks.experiments.common import Finding, digits, few, halves
from benchmarks.experiments.tradaboost import fit_tradaboost
from multimodal.transfer.folds import each_fold, repeated_folds
from multimodal.transfer.instances.source_weight import choose_source_weight, fit_with_source
from multimodal.transfer.maps.affine import AffineMap, DomainMaps
from multimodal.transfer.probes.logistic import LinearClassifier, fit_softmax

EXPECTED = {  # pooled, weight chosen, TrAdaBoost, L2-SP chosen, EasyAdapt
    "right": (0.948, 0.940, 0.927, 0.936, 0.916),
    "30 % noise": (0.927, 0.922, 0.921, 0.927, None),
    "shifted by one": (0.004, 0.864, 0.005, 0.857, 0.828),
    "random": (0.365, 0.863, 0.771, 0.866, None),
}
DRAWS = 2


def e6() -> list[Finding]:
    """Mean over draws."""
    pixels, labels = digits()
    names = ("pooled", "weight by CV", "TrAdaBoost", "L2-SP by CV", "EasyAdapt")
    alone, scores = 0.0, {kind: np.zeros(len(names)) for kind in EXPECTED}
    for seed in range(DRAWS):
        own, there = halves(seed)
        train, test = few(labels, there, 5, seed)
        target = (pixels[train], labels[train])
        alone += np.mean(fit_softmax(*target, l2=1e-2).predict(pixels[test]) == labels[test]) / DRAWS
        for kind in EXPECTED:
            source = (pixels[own], _labels(labels[own], kind, seed))
            models = (
                fit_with_source(source, target, weight=1.0),
                choose_source_weight(source, target, seed=seed).classifier,
                fit_tradaboost(source, target),
                _anchored(source, target, seed),
                _easy(source, target),
            )
            scores[kind] += [np.mean(model.predict(pixels[test]) == labels[test]) / DRAWS for model in models]
    found = [Finding("target only", 0.866, float(alone), 0.03)]
    for kind, expected in EXPECTED.items():
        for name, want, score in zip(names, expected, scores[kind], strict=True):
            if want is not None:
                found.append(Finding(f"{kind}, {name}", want, float(score), 0.1 if kind == "random" else 0.05))
    return found


def _labels(labels: np.ndarray, kind: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "shifted by one":
        return (labels + 1) % 10
    share = {"right": 0.0, "30 % noise": 0.3, "random": 1.0}[kind]
    return np.where(rng.random(len(labels)) < share, rng.integers(10, size=len(labels)), labels)


Pair = tuple[np.ndarray, np.ndarray]


def _anchored(source: Pair, target: Pair, seed: int) -> LinearClassifier:
    """L2-SP on the head: drawn to the source's weights, as strongly as target folds say, zero included as anchor."""
    anchor = fit_softmax(*source, l2=1e-3).weights
    options = [(l2, start) for start in (None, anchor) for l2 in (1e-3, 1e-2, 1e-1, 1.0)]
    x, y = target
    folds = list(each_fold(repeated_folds(y, folds=5, repeats=2, seed=seed)))

    def score(l2: float, start: np.ndarray | None) -> float:
        fits = [
            np.mean(fit_softmax(x[f.train], y[f.train], l2=l2, anchor=start).predict(x[f.test]) == y[f.test])
            for f in folds
        ]
        return float(np.mean(fits))

    l2, start = max(options, key=lambda option: score(*option))
    return fit_softmax(x, y, l2=l2, anchor=start)


def _easy_adapt(dim: int) -> DomainMaps:
    """Source: [x, x, 0]; target: [x, 0, x] (Daume, 2007, https://aclanthology.org/P07-1033)."""
    one, none, zeros = np.eye(dim), np.zeros((dim, dim)), np.zeros(3 * dim)
    return DomainMaps(AffineMap(np.hstack([one, one, none]), zeros), AffineMap(np.hstack([one, none, one]), zeros))


def _easy(source: Pair, target: Pair) -> LinearClassifier:
    maps = _easy_adapt(64)
    features = np.concatenate([maps.source.transform(source[0]), maps.target.transform(target[0])])
    weights = np.repeat([1 / len(source[0]), 1 / len(target[0])], [len(source[0]), len(target[0])])
    probe = fit_softmax(features, np.concatenate([source[1], target[1]]), l2=1e-3, row_weights=weights)
    return probe.after(maps.target)
