"""E3, E7, E8, E10, E11, E12: heads on frozen features, rankings of encoders, and what fine-tuning does."""

from copy import deepcopy
from functools import partial

import numpy as np
import torch
from scipy.stats import kendalltau
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from benchmarks.experiments.common import Finding, Network, digits, few, halves, probe_accuracy, source_net
from multimodal.transfer.folds import each_fold, repeated_folds
from multimodal.transfer.probes.logistic import fit_softmax
from multimodal.transfer.probes.neighbours import fit_nearest_mean
from multimodal.transfer.selection.scores import logme

DRAWS = 5


def e3() -> list[Finding]:
    """Raw pixels in five folds, and the few-shot ladder of three heads (5 draws)."""
    pixels, labels = digits()
    folds = each_fold(repeated_folds(labels, folds=5))
    whole = np.mean([probe_accuracy(pixels, labels, fold.train, fold.test, l2=1e-3) for fold in folds])
    expected = {
        "raw": {1: (0.624, 0.624, 0.647), 5: (0.847, 0.864, 0.862), 20: (0.899, 0.947, 0.929)},
        "10-class net": {1: (0.893, 0.893, 0.892), 5: (0.964, 0.961, 0.961), 20: (0.973, 0.969, 0.972)},
    }
    found = [Finding("logistic regression, 5 folds", 0.964, float(whole), 0.01)]
    for name, ladder in expected.items():
        for count, wanted in ladder.items():
            scores = np.zeros(3)
            for seed in range(DRAWS):
                there = halves(seed)[1]
                features = pixels
                if name != "raw":
                    features = source_net("10 classes", seed).features(pixels)
                train, test = few(labels, there, count, seed)
                x, y = features[train], labels[train]
                for index, head in enumerate(
                    (fit_nearest_mean(x, y), KNeighborsClassifier(1).fit(x, y), fit_softmax(x, y, l2=1e-2))
                ):
                    scores[index] += np.mean(head.predict(features[test]) == labels[test]) / DRAWS
            for head_name, want, score in zip(("nearest mean", "1 neighbour", "logistic"), wanted, scores, strict=True):
                found.append(
                    Finding(f"{name}, {count} a class, {head_name}", want, float(score), 0.08 if count == 1 else 0.04)
                )
    return found


def e7() -> list[Finding]:
    """Where a probe on source features helps, and where it harms (5 draws)."""
    pixels, labels = digits()
    parity, accuracy = labels % 2, partial(probe_accuracy, l2=1e-3)
    found = []
    for count, gap in {5: 0.082, 10: 0.076, 20: 0.051, 50: 0.035}.items():
        gaps = []
        for seed in range(DRAWS):
            there = halves(seed)[1]
            features = source_net("10 classes", seed).features(pixels)
            train, test = few(parity, there, count, seed)
            gaps.append(accuracy(features, parity, train, test) - accuracy(pixels, parity, train, test))
        found.append(Finding(f"10 classes -> parity, {count} a class: gap", gap, float(np.mean(gaps)), 0.05))
    high = np.flatnonzero(labels >= 5)
    for count, wanted in {5: (0.626, 0.907), 20: (0.746, 0.949)}.items():
        scores = np.zeros(2)
        for seed in range(DRAWS):
            features = source_net("0-4", seed).features(pixels)
            train, test = few(labels - 5, high, count, seed)
            scores += [accuracy(x, labels - 5 * (labels >= 5), train, test) / DRAWS for x in (features, pixels)]
        found.append(Finding(f"0-4 -> 5-9, {count} a class: probe", wanted[0], scores[0], 0.08))
        found.append(Finding(f"0-4 -> 5-9, {count} a class: raw", wanted[1], scores[1], 0.03))
    scores = np.zeros(2)
    for seed in range(DRAWS):
        there = halves(seed)[1]
        features = source_net("parity", seed).features(pixels)
        train, test = few(labels, there, 5, seed)
        scores += [accuracy(x, labels, train, test) / DRAWS for x in (features, pixels)]
    found.append(Finding("parity -> 10 classes, 5 a class: probe", 0.790, scores[0], 0.08))
    return [*found, Finding("parity -> 10 classes, 5 a class: raw", 0.881, scores[1], 0.03)]


def _extractors(seed: int) -> dict[str, np.ndarray]:
    """Nine encoders of all digits, trained on the source half."""
    pixels = digits()[0]
    rng = np.random.default_rng(seed)
    found = {"raw": pixels, "eight pixels": pixels[:, ::8]}
    for width in (16, 64, 256):
        found[f"random {width}"] = np.tanh(pixels @ rng.normal(size=(64, width)) / 4)
    found |= {f"10 classes, layer {depth}": source_net("10 classes", seed).features(pixels, depth) for depth in (1, 2)}
    found |= {f"parity, layer {depth}": source_net("parity", seed).features(pixels, depth) for depth in (1, 2)}
    return found


def e8() -> list[Finding]:
    """Kendall's tau of LogME and of a cross-validated probe with test accuracy, over nine encoders (5 draws)."""
    labels = digits()[1]
    found = []
    for n, wanted in {50: (0.61, 0.20), 200: (0.56, 0.94), 600: (0.38, 0.78)}.items():
        taus = np.zeros(2)
        for seed in range(DRAWS):
            train, test = few(labels, halves(seed)[1], n // 10, seed)
            parts = repeated_folds(labels[train], folds=5, seed=seed)
            scores = []
            for features in _extractors(seed).values():
                x = (features - features[train].mean(0)) / (features[train].std(0) + 1e-6)
                folds = [(train[fold.train], train[fold.test]) for fold in each_fold(parts)]
                cv = np.mean([probe_accuracy(x, labels, *fold) for fold in folds])
                scores.append((logme(features[train], labels[train]), cv, probe_accuracy(x, labels, train, test)))
            columns = np.array(scores).T
            taus += [kendalltau(columns[index], columns[2]).statistic / DRAWS for index in (0, 1)]
        for name, want, tau in zip(("LogME", "cross-validated probe"), wanted, taus, strict=True):
            found.append(Finding(f"{n} records, {name}: tau", want, float(tau), 0.35))
    return found


def e10() -> list[Finding]:
    """Left and right half of digits as two inputs, each dropped with a probability (2 seeds)."""
    pixels, labels = digits()
    left = np.arange(64) % 8 < 4
    expected = {0.0: (0.971, 0.485, 0.373), 0.2: (0.965, 0.851, 0.882)}
    found = []
    for share, wanted in expected.items():
        scores = np.zeros(3)
        for seed in range(2):
            own, there = halves(seed)
            net = _dropped(pixels[own], labels[own], left, share, seed)
            shown = (np.ones(64, bool), left, ~left)
            for index, mask in enumerate(shown):
                with torch.no_grad():
                    answers = net(torch.from_numpy(pixels[there] * mask).float()).argmax(1).numpy()
                scores[index] += np.mean(answers == labels[there]) / 2
        for name, want, score in zip(("both", "left only", "right only"), wanted, scores, strict=True):
            found.append(Finding(f"dropped with {share}, {name}", want, float(score), 0.05 if share else 0.2))
    return found


def _dropped(x: np.ndarray, labels: np.ndarray, left: np.ndarray, share: float, seed: int) -> Network:
    """A network trained with one half of some records hidden, never both."""
    net = Network(10, seed=seed)
    inputs, targets = torch.from_numpy(x).float(), torch.from_numpy(labels)
    sides = torch.from_numpy(np.stack([left, ~left])).float()
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(400):
        keep = torch.rand(len(x), 2) >= share
        keep[~keep.any(dim=1)] = True
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(inputs * (keep.float() @ sides)), targets).backward()
        optimizer.step()
    return net


def e11() -> list[Finding]:
    """A long tail of 100 to 5 records per class, logits less tau log(frequencies), balanced test (5 draws)."""
    pixels, labels = digits()
    counts = np.geomspace(100, 5, 10).astype(int)
    found = []
    for tau, wanted in {0.0: (0.871, 0.661), 0.5: (0.906, 0.775), 1.0: (0.913, 0.837)}.items():
        scores = np.zeros(2)
        for seed in range(DRAWS):
            order = np.random.default_rng(seed).permutation(len(labels))
            rows = np.concatenate([order[labels[order] == c][:count] for c, count in enumerate(counts)])
            test = np.setdiff1d(order, rows)
            probe = fit_softmax(pixels[rows], labels[rows], l2=1e-3)
            offsets = tau * np.log(np.bincount(labels[rows]) / len(rows))
            right = (probe.logits(pixels[test]) - offsets).argmax(1) == labels[test]
            by_class = np.array([right[labels[test] == c].mean() for c in range(10)])
            scores += np.array([by_class.mean(), by_class[7:].mean()]) / DRAWS
        found.append(Finding(f"tau {tau}, all classes", wanted[0], scores[0], 0.03))
        found.append(Finding(f"tau {tau}, three rarest", wanted[1], scores[1], 0.09))
    return found


def e12() -> list[Finding]:
    """10 classes -> parity, 50 a class: SGD of the last layer and a head at the probe's optimum (5 draws)."""
    pixels, labels = digits()
    parity = labels % 2
    found = []
    for rate, want in {1e-4: 0.941, 1e-3: 0.943, 1e-2: 0.952}.items():
        scores, moved = [], []
        for seed in range(DRAWS):
            there = halves(seed)[1]
            net = deepcopy(source_net("10 classes", seed))
            train, test = few(parity, there, 50, seed)
            probe = fit_softmax(net.features(pixels)[train], parity[train], l2=1e-2)
            net.head = nn.Linear(32, 2)
            with torch.no_grad():
                net.head.weight.copy_(torch.from_numpy(probe.weights))
                net.head.bias.copy_(torch.from_numpy(probe.bias))
            moved.append(_finetune(net, pixels[train], parity[train], rate))
            with torch.no_grad():
                answers = net(torch.from_numpy(pixels[test]).float()).argmax(1).numpy()
            scores.append(np.mean(answers == parity[test]))
        found.append(Finding(f"learning rate {rate:g}, accuracy", want, float(np.mean(scores)), 0.03))
        if rate == 1e-4:
            found.append(Finding("learning rate 0.0001, the layer moves by", 0.0022, float(np.mean(moved)), 0.002))
    return found


def _finetune(net: Network, x: np.ndarray, labels: np.ndarray, rate: float) -> float:
    """280 steps of 16 records; distance of the last layer from where it began, relative to its norm."""
    layer = net.layers[-1]
    before = layer.weight.detach().clone()
    optimizer = torch.optim.SGD([*layer.parameters(), *net.head.parameters()], rate, momentum=0.9)
    inputs, targets = torch.from_numpy(x).float(), torch.from_numpy(labels)
    for _ in range(280):
        rows = torch.randint(len(x), (16,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(inputs[rows]), targets[rows]).backward()
        optimizer.step()
    return float((layer.weight - before).norm().detach() / before.norm())
