"""Every score of a task with its 95 % interval, as JSON. Never imports torch."""

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from multimodal.metrics.errors import error_intervals
from multimodal.metrics.intervals import Interval, Share, wilson_interval
from multimodal.metrics.labels import balanced_accuracy, label_f1
from multimodal.metrics.ranking import RECALL_AT, macro_auc, macro_average_precision, rank_partners

if TYPE_CHECKING:
    from multimodal.task_types import Decoding, TaskType

TOP = (3, 5)
_ROWS_AT_A_TIME = 256  # 100 MB at 100,000 records

Metrics = dict[str, Any]
"""Name -> {"value", "low", "high"}, and "n", "absent", "unknown"."""


def task_metrics(
    decoding: "Decoding", outputs: np.ndarray, targets: np.ndarray, *, unknown: Sequence[str] = ()
) -> Metrics:
    """Every score of one task.

    Classification gives ``accuracy``, ``balanced_accuracy``, ``macro_f1``, ``auc`` and ``average_precision`` (each one
    against the rest, mean over classes), of more classes ``top_3_accuracy`` and ``top_5_accuracy``, of two
    ``positive``, whose are ``precision``, ``recall``, ``f1`` and then also ``average_precision``; multilabel
    ``accuracy`` (the whole set right), ``macro_f1``, ``micro_f1``, ``auc`` and ``average_precision``; regression
    ``rmse``, ``mae`` (both in the data's unit) and ``r2``; pairs ``top1`` (the partner, or that of a record with the
    same content in either input, is the nearest of all n, mean of both directions; ties share; guessing has 1/n where
    all differ); embeddings what ``retrieval_metrics`` gives. A score that the records do not define is None, never NaN.
    ``macro_f1`` is the mean over classes that occur among targets or answers, ``balanced_accuracy`` over those among
    targets. ``absent`` lists the classes without a record, of which there is no AUC. Where the decoding has a smallest
    probability, ``coverage`` is the share of records that get an answer, and ``answered_accuracy`` is taken over those
    alone; the other scores are of the class that would be given without it.

    Args:
        outputs: a head's raw outputs, [n c].
        targets: classification: index of each class, int [n]; multilabel: zeros and ones, [n c]; regression:
            values in the data's unit, [n]; pairs: content numbers of both inputs, [n 2]; embeddings: equal for
            records that belong together, [n].
        unknown: names of the classes that indices (multilabel: columns) from ``len(labels)`` on stand for.
            Training did not have them, so their records are wrong, and are counted under ``unknown``.

    >>> from multimodal.decoding import Softmax
    >>> outputs = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 2.0]])
    >>> metrics = task_metrics(Softmax(("apple", "pear")), outputs, np.array([0, 1, 1, 1]))
    >>> metrics["n"], metrics["accuracy"]["value"], metrics["absent"]
    (4, 0.75, [])

    Raises:
        ValueError: if outputs and targets do not fit each other, or are not finite.
    """
    outputs, targets = np.asarray(outputs), np.asarray(targets)
    if len(outputs) != len(targets):
        raise ValueError(f"there are {len(outputs)} outputs for {len(targets)} targets; give one of each a record")
    broken = len(outputs) - int(np.isfinite(outputs).all(axis=tuple(range(1, outputs.ndim))).sum())
    if broken:
        raise ValueError(
            f"outputs of {broken} of {len(outputs)} records are not finite, so there is nothing to score; the model "
            "has diverged: train it again with a lower train.learning_rate"
        )
    return decoding.metrics(decoding.scores(outputs), targets, unknown)


def classification_metrics(
    scores: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str],
    unknown: Sequence[str],
    min_probability: float,
    chosen: np.ndarray | None = None,
) -> Metrics:
    """Scores of exactly one label per record, from probabilities [n c].

    Args:
        chosen: index of the label that each record is given, int [n]; None: of the most probable one.
    """
    n, known = len(targets), len(labels)
    size = known + len(unknown)
    if n and not 0 <= targets.min() <= targets.max() < size:
        raise ValueError(
            f"targets go from {targets.min()} to {targets.max()}, but there are {known} labels and {len(unknown)} "
            "unknown ones; give indices into both, the labels first"
        )
    if chosen is None:
        chosen = scores.argmax(axis=1) if n else np.zeros(0, np.int64)
    right, truth = chosen == targets, targets[:, None] == np.arange(known)  # [n c]
    rows, wrong = np.arange(n), np.flatnonzero(~right)
    marked = np.concatenate([rows, wrong]), np.concatenate([targets, chosen[wrong]])
    return {
        "n": n,
        "accuracy": _share_of(int(right.sum()), n),
        "balanced_accuracy": _share(balanced_accuracy(targets, right)),
        "macro_f1": _share(label_f1(*marked, np.concatenate([right, np.zeros(len(wrong), dtype=bool)]))),
        "auc": _share(macro_auc(scores, truth)),
        "average_precision": _share(macro_average_precision(scores, truth)),
        **_top(scores, targets, known),
        "absent": _absent(labels, truth),
        "unknown": {label: int((targets == known + index).sum()) for index, label in enumerate(unknown)},
        **_abstention(scores[np.arange(n), chosen], right, min_probability),
    }


def _top(scores: np.ndarray, targets: np.ndarray, known: int) -> dict[str, Metrics]:
    """Shares of records whose label is among the k most probable, of fewer than all; ties count against."""
    of_known = targets < known
    right = scores[of_known, targets[of_known].astype(np.int64)]
    places = (scores[of_known] >= right[:, None]).sum(axis=1)
    return {f"top_{k}_accuracy": _share_of(int((places <= k).sum()), len(targets)) for k in TOP if k < known}


def positive_metrics(probabilities: np.ndarray, given: np.ndarray, truth: np.ndarray) -> Metrics:
    """Scores of one of two classes: average precision, precision, recall and F1.

    Args:
        probabilities: of the class, [n].
        given: the records that were given it, bool [n].
        truth: those that have it, bool [n].
    """
    hits, rows = int((given & truth).sum()), np.flatnonzero(given | truth)
    found = label_f1(rows, np.zeros_like(rows), (given & truth)[rows])
    return {
        "average_precision": _share(macro_average_precision(probabilities[:, None], truth[:, None])),
        "precision": _share_of(hits, int(given.sum())),
        "recall": _share_of(hits, int(truth.sum())),
        "f1": _share(found),
    }


def _abstention(probabilities: np.ndarray, right: np.ndarray, min_probability: float) -> dict[str, Metrics]:
    """Nothing where every record is answered."""
    if not min_probability:
        return {}
    answered = probabilities >= min_probability
    count = int(answered.sum())
    return {
        "coverage": _share_of(count, len(probabilities)),
        "answered_accuracy": _share_of(int((right & answered).sum()), count),
    }


def multilabel_metrics(
    scores: np.ndarray, targets: np.ndarray, labels: Sequence[str], unknown: Sequence[str], thresholds: Sequence[float]
) -> Metrics:
    """Scores of any number of labels per record, from probabilities [n c]."""
    n, known, truth = len(targets), len(labels), targets > 0.5
    if truth.shape != (n, known + len(unknown)):
        raise ValueError(
            f"targets are {list(truth.shape)} but outputs {list(scores.shape)}, and {len(unknown)} labels are unknown; "
            "give both as [n c], with a column of targets more for each unknown label"
        )
    never = np.zeros((n, len(unknown)), dtype=bool)
    given = np.concatenate([scores >= np.asarray(thresholds), never], axis=1)
    rows, columns = np.nonzero(truth | given)
    hits = (truth & given)[rows, columns]
    return {
        "n": n,
        "accuracy": _share_of(int((truth == given).all(axis=1).sum()), n),
        "macro_f1": _share(label_f1(rows, columns, hits)),
        "micro_f1": _share(label_f1(rows, np.zeros_like(columns), hits)),
        "auc": _share(macro_auc(scores, truth[:, :known])),
        "average_precision": _share(macro_average_precision(scores, truth[:, :known])),
        "absent": _absent(labels, truth[:, :known]),
        "unknown": {label: int(truth[:, known + index].sum()) for index, label in enumerate(unknown)},
    }


def regression_metrics(scores: np.ndarray, targets: np.ndarray) -> Metrics:
    """Scores of one number per record, from values [n 1] in the data's unit."""
    n, names = len(targets), ("rmse", "mae", "r2")
    if scores.size != targets.size or not np.isfinite(targets).all():
        raise ValueError(f"targets are {list(targets.shape)}, or not finite; give one finite number a record")
    if n == 0:
        return {"n": 0, **{name: _undefined() for name in names}}
    truth = targets.reshape(n).astype(np.float64)
    found = error_intervals(scores.reshape(n) - truth, truth)
    return {"n": n, **{name: _estimate(*found[name]) if name in found else _undefined() for name in names}}


def matching_metrics(first: np.ndarray, second: np.ndarray, contents: np.ndarray) -> Metrics:
    """Scores of two embeddings [n d] per record that find each other."""
    n = len(first)
    if contents.shape != (n, 2):
        raise ValueError(f"targets are {list(contents.shape)}; give the content numbers of both inputs, [n 2]")
    if n < 2:
        return {"n": n, "top1": _undefined()}  # a record alone has nothing to be taken for
    right = (_found_partners(first, second, contents) + _found_partners(second, first, contents)) / 2
    return {"n": n, "top1": _share_of(right, n)}


def retrieval_metrics(embeddings: np.ndarray, targets: np.ndarray) -> Metrics:
    """Scores of how well each record finds those of its own label among all others of the table (leave one out).

    ``recall_at_1``: the nearest has its label; ``recall_at_5``: one of the nearest five has; ``map``: mean average
    precision over the whole ranking. Ties count against. ``alone`` records have nobody to find: they are there to be
    taken for others, and are not in ``n``. Scores of tables of different sizes do not compare.
    """
    ranks = rank_partners(embeddings, targets)
    n = len(ranks.first)
    scores = {f"recall_at_{k}": ranks.first <= k for k in RECALL_AT} | {"map": ranks.precision}
    shares = {
        name: Share(float(values.mean()), float(variance), n).blended() if n else None
        for (name, values), variance in zip(scores.items(), ranks.variances, strict=True)
    }
    return {"n": n, **{name: _share(share) for name, share in shares.items()}, "alone": len(targets) - n}


def _found_partners(anchors: np.ndarray, partners: np.ndarray, contents: np.ndarray) -> float:
    """How many anchors [n d] are nearest to their own partner, or that of a record that shares a content number of
    either input, [n 2]; among k equally near ones each counts 1/k."""
    found = 0.0
    for start in range(0, len(anchors), _ROWS_AT_A_TIME):
        cosines = anchors[start : start + _ROWS_AT_A_TIME] @ partners.T  # [r n]
        is_best = cosines == cosines.max(axis=1, keepdims=True)
        same = (contents[start : start + _ROWS_AT_A_TIME, None] == contents).any(axis=2)  # [r n]
        found += float(((is_best & same).sum(axis=1) / is_best.sum(axis=1)).sum())
    return found


def _absent(labels: Sequence[str], truth: np.ndarray) -> list[str]:
    return [label for label, column in zip(labels, truth.T, strict=True) if not column.any()]


def _share(found: Share | None) -> Metrics:
    return _undefined() if found is None else _estimate(found.value, found.interval)


def _share_of(hits: float, n: int) -> Metrics:
    """A share of n records with Wilson's interval."""
    return _estimate(hits / n, wilson_interval(hits, n)) if n else _undefined()


def _estimate(value: float, interval: Interval | None) -> Metrics:
    low, high = (None, None) if interval is None else (float(interval[0]), float(interval[1]))
    return {"value": float(value), "low": low, "high": high}


def _undefined() -> Metrics:
    return {"value": None, "low": None, "high": None}


def selection_score(metrics: Mapping[str, Metrics], metric: str, types: Mapping[str, "TaskType"]) -> float:
    """The one number, higher is better, that chooses among epochs or runs.

    Args:
        metrics: task -> what ``task_metrics`` gave.
        metric: "mean" over the tasks that define their main metric; or "TASK.METRIC". Errors count negative; in the
            mean nothing counts less than -1.
        types: task -> its type, which knows the main metric and which metrics are errors.

    >>> from multimodal.task_types import task_type
    >>> selection_score({"price": {"rmse": {"value": 2.0}}}, "price.rmse", {"price": task_type("regression")})
    -2.0

    Raises:
        LookupError: if there is no such task or metric.
        ValueError: if the records do not define the score.
    """
    known = [f"{task}.{name}" for task, scores in metrics.items() for name in _score_names(scores)]
    chosen = [f"{task}.{types[task].main_metric}" for task in metrics] if metric == "mean" else [metric]
    if metric not in ("mean", *known):
        near = difflib.get_close_matches(metric, ["mean", *known], n=1)
        hint = f"did you mean {near[0]!r}? There" if near else "there"
        raise LookupError(f"there is no metric {metric!r}; {hint} are mean, {', '.join(known)}")
    values = []
    for task, _, name in (key.rpartition(".") for key in chosen):
        value = metrics[task][name]["value"]
        if value is not None:
            entry = types[task].metrics.get(name)
            value = -value if entry is not None and entry.lower_is_better else value
            values.append(max(value, -1.0) if metric == "mean" else value)  # R2 has no lower end
    if not values:
        raise ValueError(
            f"{' and '.join(chosen)}: not defined on these records, so they cannot choose the best weights; give "
            "data.valid labelled records that differ, or take another train.metric"
        )
    return float(np.mean(values))


def _score_names(scores: Metrics) -> list[str]:
    return [name for name, score in scores.items() if name != "unknown" and isinstance(score, Mapping)]
