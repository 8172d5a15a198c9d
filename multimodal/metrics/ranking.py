"""Metrics of an order: area under the ROC curve, retrieval. Never imports torch."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from multimodal.metrics.intervals import Share, blend_variance, draw_together, effective_size


def macro_auc(scores: np.ndarray, truth: np.ndarray) -> Share | None:
    """Mean over classes of the area under the ROC curve of one against the rest.

    Ties count one half. A class without positives, or without negatives, is left out; None where all are. The
    variance of a class is that of DeLong et al. (1988), https://doi.org/10.2307/2531595. Ours differs: it goes through
    ``blend_variance``, since the positives of a rare class do not show their spread; and what a record does to several
    classes at once is added, where it makes their mean less sure.

    Args:
        scores: higher for more likely positives, [n c].
        truth: bool [n c].

    >>> macro_auc(np.array([[0.1], [0.4], [0.4], [0.8]]), np.array([[False], [False], [True], [True]])).value
    0.875
    """
    counts = np.stack([truth.sum(axis=0), (~truth).sum(axis=0)]).astype(np.float64)  # [2 c]
    defined = np.flatnonzero(counts.all(axis=0))
    if not len(defined):
        return None
    counts = counts[:, defined]
    areas, spread = np.empty(len(defined)), np.empty(counts.shape)
    influence, weights, own = np.zeros(len(truth)), np.zeros(len(truth)), 0.0
    for index, column in enumerate(defined):
        positive = truth[:, column]
        wins = _wins(scores[:, column], positive)
        areas[index] = wins[positive].mean()
        spread[:, index] = wins[positive].var(), wins[~positive].var()
        alone = (wins - areas[index]) / np.where(positive, *counts[:, index])
        influence += alone
        own += float((alone**2).sum())
        weights[positive == (counts[0, index] <= counts[1, index])] += 1 / counts[:, index].min()  # of the rarer kind
    smooth = draw_together(areas, counts.min(axis=0))
    shared = max(0.0, float((influence**2).sum()) - own)
    variance = (blend_variance(spread, counts, smooth).sum() + shared) / len(areas) ** 2
    return Share(float(areas.mean()), float(variance), effective_size(weights))


def macro_average_precision(scores: np.ndarray, truth: np.ndarray) -> Share | None:
    """Mean over classes of the average precision: at each positive, the share of positives among all that are as high.

    As scikit-learn has it; ties are one step. A class without positives is left out; None where all are. The variance
    is the jackknife's, positives and negatives of a class through ``blend_variance`` as in ``macro_auc``.

    Args:
        scores: higher for more likely positives, [n c].
        truth: bool [n c].

    >>> macro_average_precision(np.array([[0.1], [0.4], [0.35], [0.8]]), np.array([[0], [0], [1], [1]]) > 0).value
    0.8333333333333333
    """
    defined = np.flatnonzero(truth.any(axis=0))
    if not len(defined):
        return None
    values, counts = np.empty(len(defined)), truth[:, defined].sum(axis=0).astype(np.float64)
    influence, weights, own = np.zeros(len(truth)), np.zeros(len(truth)), np.zeros(len(defined))
    for index, column in enumerate(defined):
        values[index], alone = _average_precision(scores[:, column], truth[:, column])
        influence += alone
        own[index] = (alone**2).sum()
        weights[truth[:, column]] += 1 / counts[index]
    shared = max(0.0, float((influence**2).sum() - own.sum()))
    variances = blend_variance(own * counts, counts, draw_together(values, counts))
    return Share(float(values.mean()), float(variances.sum() + shared) / len(values) ** 2, effective_size(weights))


def _average_precision(values: np.ndarray, positive: np.ndarray) -> tuple[float, np.ndarray]:
    """Average precision of a class, and what leaving each row out takes from it, [n]."""
    order = np.argsort(-values, kind="stable")
    hits, last = np.cumsum(positive[order]), np.searchsorted(-values[order], -values[order], "right") - 1
    above, among = hits[last], last + 1.0  # positives, and rows, that are at least as high
    size, is_hit = int(hits[-1]), positive[order]
    terms = np.where(is_hit, above / among, 0.0)
    value = float(terms.sum() / size)
    if size == 1 and len(values) == 1:
        return value, np.zeros(1)
    rest = np.maximum(among - 1, 1.0)

    def behind(changed: np.ndarray) -> np.ndarray:
        """Sum over the positives that are as high or lower, of what their term becomes."""
        first = np.searchsorted(-values[order], -values[order], "left")
        return np.cumsum(changed[::-1])[::-1][first]

    lower = behind(terms)
    of_negative = (value * size - lower + behind(np.where(is_hit, above / rest, 0.0))) / size
    of_positive = value * size - lower + behind(np.where(is_hit, (above - 1) / rest, 0.0)) - (above - 1) / rest
    left = np.where(is_hit, of_positive / max(1, size - 1), of_negative)
    changes = np.empty(len(values))
    changes[order] = value - left
    return value, changes


def _wins(values: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """For each row, the share of the rows of the other kind that it is on the right side of, [n]."""
    wins = np.empty(len(values))
    wins[positive] = _share_below(values[positive], values[~positive])
    wins[~positive] = 1.0 - _share_below(values[~positive], values[positive])
    return wins


def _share_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each value, the share of the others that are smaller; equal ones count one half."""
    others = np.sort(others)
    return (others.searchsorted(values, "left") + others.searchsorted(values, "right")) / (2 * len(others))


_ROWS_AT_A_TIME = 256  # 100 MB at 100,000 records


RECALL_AT = (1, 5)


class Ranks(NamedTuple):
    """Of the m records that have another one of their label."""

    first: np.ndarray
    """Place, from 1, of the nearest record of the same label, int [m]."""
    precision: np.ndarray
    """Average precision of the whole ranking, [m]."""
    variances: np.ndarray
    """Of the recall at each of ``RECALL_AT`` and of the mean precision."""


def rank_partners(embeddings: np.ndarray, labels: np.ndarray) -> Ranks:
    """Ranks, for each record, all others by their cosine. Among equally near ones those of other labels come first.

    A record is a query and a candidate of all others, so that scores of two queries are not independent. Their
    covariance is the jackknife's (Efron and Stein, 1981, https://doi.org/10.1214/aos/1176345462): what leaving each
    record out does to both. Ours differs: a query's own variance, which the jackknife counts twice, once for itself and
    once for its candidates, is counted once.

    Args:
        embeddings: of length 1, [n d].
        labels: equal where records belong together, [n].

    >>> near = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    >>> rank_partners(near, np.array([0, 1, 0])).first.tolist()
    [2, 2]
    """
    queries: list[int] = []
    first: list[int] = []
    lonely: list[tuple[int, int]] = []
    scores, squares = np.empty((len(labels), len(RECALL_AT) + 1)), np.zeros(len(RECALL_AT) + 1)
    changes = np.zeros((len(squares), len(labels)))  # of the sums of the scores, by leaving a record out
    for query in _queries(embeddings, labels):
        scores[len(queries)] = *(query.places[0] <= np.array(RECALL_AT)), query.precisions.mean()
        queries.append(query.row)
        first.append(int(query.places[0]))
        without = query.without_other()
        changes[:, query.others] += without
        squares += (without**2).sum(axis=1)
        if len(query.partners) == 1:
            lonely.append((int(query.partners[0]), len(queries) - 1))  # without it the query is none
        else:
            without = query.without_partner()
            changes[:, query.partners] += without
            squares += (without**2).sum(axis=1)
    scores = scores[: len(queries)]
    own = scores.mean(axis=0) - scores if queries else scores  # by leaving the query itself out
    for partner, place in lonely:
        changes[:, partner] += own[place]
        squares += own[place] ** 2
    changes[:, queries] += own.T
    variances = (own**2).sum(axis=0)
    covariances = (changes**2).sum(axis=1) - squares - variances
    variances = (variances + np.maximum(covariances, 0.0)) / max(1, len(queries)) ** 2
    return Ranks(np.array(first, dtype=np.int64), scores[:, -1], variances)


class _Query(NamedTuple):
    """One record and the ranking of all others."""

    row: int
    partners: np.ndarray
    """Records of its label, nearest first, int [p]."""
    places: np.ndarray
    """Of each, from 1, int [p]."""
    others: np.ndarray
    """Records of other labels that are as near as some partner, int [o]."""
    nearer: np.ndarray
    """Partners that are nearer than each of them, int [o]."""

    @property
    def precisions(self) -> np.ndarray:
        """Share of partners among the records up to each partner, [p]."""
        return np.asarray(np.arange(1, len(self.places) + 1) / self.places)

    def without_other(self) -> np.ndarray:
        """What leaving each of the others out adds to each score, [s o]: partners behind it move up by one."""
        number = np.arange(1, len(self.places) + 1)
        gains = number / np.maximum(self.places - 1, 1) - self.precisions
        behind = np.cumsum(gains[::-1])[::-1] / len(number)
        is_first = self.nearer == 0
        return np.stack([*((self.places[0] == k + 1) & is_first for k in RECALL_AT), behind[self.nearer]])

    def without_partner(self) -> np.ndarray:
        """What leaving each of two or more partners out adds to each score, [s p]."""
        count = len(self.places)
        ahead = np.cumsum(self.precisions) - self.precisions
        moved = np.arange(count) / np.maximum(self.places - 1, 1)  # behind it: one partner and one place less
        behind = np.cumsum(moved[::-1])[::-1] - moved
        added = np.zeros((len(RECALL_AT) + 1, count))
        added[:-1, 0] = [float(self.places[1] - 1 <= k) - float(self.places[0] <= k) for k in RECALL_AT]
        added[-1] = (ahead + behind) / (count - 1) - self.precisions.mean()
        return added


def _queries(embeddings: np.ndarray, labels: np.ndarray) -> Iterator[_Query]:
    """Every record that has another one of its label."""
    for start in range(0, len(labels), _ROWS_AT_A_TIME):
        cosines = embeddings[start : start + _ROWS_AT_A_TIME] @ embeddings.T  # [r n]
        for row, near in enumerate(cosines, start):
            is_other = labels != labels[row]
            partners = np.flatnonzero(~is_other)
            partners = partners[partners != row]
            if len(partners):
                partners = partners[np.argsort(-near[partners], kind="stable")]
                rising = near[partners[::-1]]
                others = np.flatnonzero(is_other & (near >= rising[0]))
                nearer = len(partners) - rising.searchsorted(near[others], "right")
                before = np.bincount(nearer, minlength=len(partners)).cumsum()  # others that are as near, or nearer
                yield _Query(row, partners, before + np.arange(1, len(partners) + 1), others, nearer)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows of ``vectors`` [n d] at length 1; a row of zeros, which has no direction, stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, lengths.dtype.type(1))
