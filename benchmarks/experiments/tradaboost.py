"""TrAdaBoost: boosting that forgets the source records it gets wrong."""

from dataclasses import dataclass

import numpy as np

from multimodal.transfer.checks import check_labels, check_pair
from multimodal.transfer.probes.logistic import LinearClassifier, fit_softmax

_LEAST_ERROR, _MOST_ERROR = 1e-3, 0.499  # the method needs an error below a half, and a finite vote


@dataclass(frozen=True, eq=False)
class BoostedClassifier:
    """Votes of the classifiers of the last half of the rounds."""

    members: tuple[LinearClassifier, ...]
    votes: np.ndarray
    """Of each member, [k]."""
    source_weights: np.ndarray
    """How much each source record counts at the end, sum over both domains 1, [n]."""

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Class of each record, int [n]."""
        count = len(self.members[0].bias)
        ballots = np.stack([np.eye(count)[member.predict(features)] for member in self.members])  # [k n c]
        return np.tensordot(self.votes, ballots, axes=1).argmax(axis=1)


def fit_tradaboost(
    source: tuple[np.ndarray, np.ndarray],
    target: tuple[np.ndarray, np.ndarray],
    *,
    rounds: int = 10,
    l2: float = 1e-2,
    num_classes: int | None = None,
) -> BoostedClassifier:
    """Boosts softmax classifiers; a source record answered wrong loses weight, a target record gains.

    Dai et al. (2007, https://doi.org/10.1145/1273496.1273521). Ours differs: several classes, and an error on the
    target of a half or more counts as .499 instead of stopping.

    When not to use: with a source whose labels are mostly wrong for the target: it forgets too slowly, and ends below
    the target alone (digits with shifted labels: .005 against .866). ``choose_source_weight`` has zero in its grid.

    Args:
        source: features [n d] and labels [n].
        target: features [m d] and labels [m].
        rounds: at least 2.

    Raises:
        ValueError: if there are fewer than two rounds.
    """
    if rounds < 2:
        raise ValueError(f"rounds is {rounds}; give at least 2, 10 are usual")
    xs, xt = check_pair(source[0], target[0])
    features = np.concatenate([xs, xt])
    labels, count = check_labels(np.concatenate([source[1], target[1]]), len(features), num_classes)
    own = np.arange(len(features)) >= len(xs)
    weights = np.full(len(features), 1 / len(features))
    forget = 1 / (1 + np.sqrt(2 * np.log(len(xs)) / rounds))
    members, votes, last = [], [], None
    for _ in range(rounds):
        last = fit_softmax(features, labels, l2=l2, num_classes=count, row_weights=weights, start=last)
        wrong = last.predict(features) != labels
        error = float(np.clip(weights[own] @ wrong[own] / weights[own].sum(), _LEAST_ERROR, _MOST_ERROR))
        beta = error / (1 - error)
        members.append(last)
        votes.append(np.log(1 / beta))
        weights = weights * np.where(own, beta ** -wrong.astype(float), forget ** wrong.astype(float))
        weights = weights / weights.sum()
    half = rounds // 2
    return BoostedClassifier(tuple(members[half:]), np.array(votes[half:]), weights[: len(xs)])
