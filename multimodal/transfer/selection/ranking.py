"""Ranking of candidate encoders by a cross-validated probe on their features. Never imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from multimodal.metrics.intervals import Interval
from multimodal.transfer.folds import each_fold
from multimodal.transfer.guard.gaps import Gaps
from multimodal.transfer.guard.held_out import held_out_scores
from multimodal.transfer.guard.verdict import corrected_t_interval, simplest_within_one_error
from multimodal.transfer.selection.scores import logme


@dataclass(frozen=True, eq=False)
class CandidateScore:
    """Scores of one candidate."""

    per_fold: np.ndarray
    """Held-out accuracy of the probe in each fold, mean over the tasks, [j]."""
    per_task: dict[str, float]
    """Task -> held-out accuracy."""
    interval: Interval
    """Of the mean over folds, Nadeau and Bengio's."""
    logme: float
    """Mean over the tasks."""

    @property
    def value(self) -> float:
        """Mean held-out accuracy."""
        return float(self.per_fold.mean())


@dataclass(frozen=True, eq=False)
class LabelledFolds:
    """One task of the records that score all candidates."""

    rows: np.ndarray
    """Places of its records among the features, int [n]."""
    labels: np.ndarray
    """Class of each, int [n]."""
    parts: np.ndarray
    """From ``repeated_folds``, [r n]."""


def score_candidate(features: np.ndarray, tasks: Mapping[str, LabelledFolds]) -> CandidateScore:
    """Cross-validates a logistic probe on a candidate's features, on the same folds for every candidate.

    Features are standardised inside each fold, so that their scale says nothing; the penalty is one for all
    (``guard.held_out.L2``). Protocol of Kornblith et al. (2019, https://arxiv.org/abs/1805.08974), the penalty fixed.

    When not to use: with fewer than about ten labels per class, where the order of near candidates is chance.

    Args:
        features: of all records, [n d].
        tasks: all with as many folds and repeats.
    """
    per_task, sums, evidence, sizes = {}, [], [], []
    for name, task in tasks.items():
        count, own = int(task.labels.max()) + 1, features[task.rows]
        right = held_out_scores(own, task.labels, task.parts, count).right
        folds = list(each_fold(task.parts))
        sums.append(np.array([right[fold.repeat, fold.test].mean() for fold in folds]))
        sizes.append(np.mean([len(fold.test) / len(fold.train) for fold in folds]))
        per_task[name] = float(sums[-1].mean())
        evidence.append(logme(own, task.labels))
    per_fold = np.mean(sums, axis=0)
    records = min(len(task.rows) for task in tasks.values())
    repeats = len(next(iter(tasks.values())).parts)
    low, high = corrected_t_interval(Gaps(per_fold, np.zeros(records), float(np.mean(sizes)), repeats=repeats))
    return CandidateScore(per_fold, per_task, (max(0.0, low), min(1.0, high)), float(np.mean(evidence)))


def choose_candidate(scores: Mapping[str, CandidateScore], costs: Mapping[str, float]) -> str:
    """The cheapest candidate within one standard error of the best; of equally cheap ones that with the best score.

    When not to use: where a point counts more than the cost; the table has the highest score first.

    Args:
        costs: of each candidate, e.g. its parameters.

    Raises:
        ValueError: if there is no candidate.
    """
    order = sorted(scores, key=lambda name: (costs[name], -scores[name].value, name))
    return simplest_within_one_error({name: scores[name].per_fold for name in order})


def agreement(scores: Mapping[str, CandidateScore]) -> float | None:
    """Kendall's tau between the probe's order and LogME's; None with fewer than three candidates or all alike.

    Below zero one of the two is not to be believed.
    """
    from scipy.stats import kendalltau

    if len(scores) < 3:
        return None
    tau = float(kendalltau([s.value for s in scores.values()], [s.logme for s in scores.values()]).statistic)
    return tau if np.isfinite(tau) else None
