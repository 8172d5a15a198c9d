"""Scores that rank encoders before training: NCE, LEEP, LogME, proxy A-distance."""

import math

import numpy as np

from multimodal.transfer.checks import check_features, check_labels
from multimodal.transfer.instances.domain_weights import domain_log_odds


def negative_conditional_entropy(source_labels: np.ndarray, labels: np.ndarray) -> float:
    """-H(target | source) in nats; at most zero, higher is better.

    Tran et al. (2019, https://arxiv.org/abs/1908.08142). LEEP with certain source predictions.

    When not to use: where the source model is uncertain; LEEP uses the other classes' probabilities.

    Args:
        source_labels: the source model's prediction (or the source label) of each target record, int [n].
        labels: target class of each record, int [n].

    >>> negative_conditional_entropy(np.array([0, 1, 2]), np.array([1, 1, 0]))
    0.0
    """
    labels, count = check_labels(labels, len(labels))
    predicted, kinds = check_labels(source_labels, len(labels))
    joint = np.bincount(predicted * count + labels, minlength=kinds * count).reshape(kinds, count) / len(labels)
    mass = np.broadcast_to(joint.sum(axis=1, keepdims=True), joint.shape)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / mass[seen])).sum()) + 0.0  # never -0.0


def leep(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean log likelihood of the labels under sum_z P(y|z) p(z|x); at most zero, higher is better.

    Nguyen et al. (2020, https://arxiv.org/abs/2002.12462). A source class that gets no mass takes no part.

    When not to use: without a source head, or with one whose classes have nothing to do with the target's.

    Args:
        probabilities: of the source classes, [n z], rows that sum to one.
        labels: target class of each record, int [n].

    >>> round(leep(np.full((4, 3), 1 / 3), np.array([0, 0, 1, 1])), 4)  # uninformative: -log 2
    -0.6931

    Raises:
        ValueError: if a row is no distribution.
    """
    found = check_features(probabilities, "source probabilities")
    labels, count = check_labels(labels, len(found))
    if found.min() < 0 or np.abs(found.sum(axis=1) - 1.0).max() > 1e-4:  # float32 sums of 1,000 classes
        raise ValueError("rows of source probabilities must be at least 0 and sum to 1; apply softmax to logits")
    joint = np.eye(count)[labels].T @ found / len(found)  # [y z]
    mass = joint.sum(axis=0)
    given = np.divide(joint, mass, out=np.zeros_like(joint), where=mass > 0)
    likelihood = (found @ given.T)[np.arange(len(labels)), labels]
    return float(np.log(likelihood).mean())


_ITERATIONS = 200


def logme(features: np.ndarray, labels: np.ndarray, *, num_classes: int | None = None) -> float:
    """Mean over classes of the log evidence of one against the rest, per record; higher is better.

    You et al. (2021, https://arxiv.org/abs/2102.11005; fixed point: https://arxiv.org/abs/2110.10545), with the
    evidence of the rank of the features: with fewer records than features, a term for each of the *features* would
    let wider encoders win for nothing. Ours differs: features and targets are centred, so that neither the offset nor
    the scale of the features counts.

    When not to use: alone. A list ordered by model size often ranks as well
    (https://arxiv.org/abs/2510.06448); show it beside a cross-validated probe.

    Args:
        features: [n d].
        labels: class of each record, int [n]; a class without a record takes no part.

    Raises:
        ValueError: if all records are of one class.
    """
    features = check_features(features)
    labels, count = check_labels(labels, len(features), num_classes)
    present = np.unique(labels)
    if len(present) < 2:
        raise ValueError(f"all {len(labels)} records are of one class, which says nothing of the features; add others")
    left, values, _ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    rank = int((values > values[0] * max(features.shape) * np.finfo(np.float64).eps).sum())
    # a centred target has one dimension less; kept, it would reward a noise of zero without bound
    spectrum = Spectrum(left[:, :rank], values[:rank] ** 2, size=len(features) - 1)
    targets = np.eye(count)[labels][:, present]
    return float(np.mean([spectrum.evidence(column) for column in (targets - targets.mean(axis=0)).T]))


class Spectrum:
    """Features F [n d] by their singular vectors, of which the evidence of any target is quick to find.

    Args:
        left: singular vectors, [n k].
        squares: squared singular values, [k], none zero.
        size: dimensions of the target; n, less what was projected out of both.
    """

    def __init__(self, left: np.ndarray, squares: np.ndarray, *, size: int) -> None:
        self.left, self.squares, self.size = left, squares, size

    def evidence(self, target: np.ndarray) -> float:
        """Log evidence per record of a target [n], at the best precisions."""
        return self.log_evidence(target, *self.fit(target)) / self.size

    def fit(self, target: np.ndarray) -> tuple[float, float]:
        """Precisions of the weights (alpha) and of the noise (beta) at MacKay's fixed point.

        Their ratio is kept within 1e-8..1e8 of the largest square: weights that say nothing would be infinitely
        precise.
        """
        most = float(self.squares.max(initial=1e-12))
        alpha, beta = most, 1.0
        for _ in range(_ITERATIONS):
            previous = alpha / beta
            weights, residual = self._norms(target, previous)
            used = float((self.squares / (self.squares + previous)).sum())
            alpha = used / max(weights, 1e-300)
            beta = (self.size - used) / max(residual, 1e-12)  # a target that is explained wholly
            alpha = min(max(alpha, 1e-8 * most * beta), 1e8 * most * beta)
            if abs(alpha / beta - previous) <= 1e-6 * previous:
                break
        return alpha, beta

    def log_evidence(self, target: np.ndarray, alpha: float, beta: float) -> float:
        """Log density of the target [n] under N(0, I/beta + F F'/alpha)."""
        n, weights, residual = self.size, *self._norms(target, alpha / beta)
        terms = len(self.squares) * math.log(alpha) + n * math.log(beta) - n * math.log(2 * math.pi)
        terms -= float(np.log(alpha + beta * self.squares).sum())
        return (terms - beta * residual - alpha * weights) / 2

    def _norms(self, target: np.ndarray, ratio: float) -> tuple[float, float]:
        """|m|^2 and |y - F m|^2 of the most likely weights m."""
        parts = (self.left.T @ target) ** 2
        outside = max(0.0, float(target @ target - parts.sum()))
        weights = float((self.squares * parts / (self.squares + ratio) ** 2).sum())
        return weights, float((parts * (ratio / (self.squares + ratio)) ** 2).sum()) + outside


def proxy_a_distance(source: np.ndarray, target: np.ndarray) -> float:
    """2 (1 - 2 e) of the held-out error e, balanced over domains: 0 for equal domains, 2 for separable ones.

    Ben-David et al. (2007, Analysis of representations for domain adaptation). Chance may take it below zero.

    When not to use: to foretell harm. On digits it is 1.9 for a blur that costs six points, and for a shift by a pixel
    that costs fifty (docs and figures: benchmarks/transfer.md).

    Args:
        source, target: [n d] and [m d].
    """
    odds = domain_log_odds(source, target)
    error = (float(np.mean(odds.source >= 0)) + float(np.mean(odds.target < 0))) / 2
    return 2 * (1 - 2 * error)
