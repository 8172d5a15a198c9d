"""95 % intervals of a cross-validated gap. Never imports torch."""

import math

import numpy as np

from multimodal.metrics.intervals import Interval, Z, bootstrap_errors
from multimodal.transfer.guard.gaps import Gaps


def corrected_t_interval(gaps: Gaps, *, level: float = 0.95) -> Interval:
    """Student's t with a variance that knows that training sets overlap: var * (1/j + n_test/n_train).

    Nadeau and Bengio (2003), https://doi.org/10.1023/A:1024068626366. Fold gaps without any spread say that the
    folds cannot tell, not that the gap is exact; the interval then is the rule of three's, +-3/n.

    When not to use: on a single split, which has no spread.

    Raises:
        ValueError: if there are fewer than two folds.
    """
    from scipy.stats import t

    number = len(gaps.per_fold)
    if number < 2:
        raise ValueError(f"there is {number} fold, which has no spread; give at least 2, 5 folds x 3 repeats are usual")
    middle, spread = float(gaps.per_fold.mean()), float(gaps.per_fold.std(ddof=1))
    if spread < 1e-12:
        margin = 3.0 / len(gaps.per_record)
    else:
        margin = float(t.ppf((1 + level) / 2, number - 1)) * spread * math.sqrt(1 / number + gaps.test_share)
    return middle - margin, middle + margin


def paired_bootstrap_interval(gaps: Gaps, *, seed: int = 0) -> Interval:
    """Normal interval with the standard error of drawing records (whole groups) again, with replacement.

    Efron and Tibshirani (1993). It knows nothing of the variance that the training set adds, and so is too narrow:
    show it as the optimistic one.

    When not to use: for the verdict.
    """
    index = np.arange(len(gaps.per_record))
    if gaps.groups is not None:
        index = np.unique(np.asarray(gaps.groups), return_inverse=True)[1].reshape(-1)
    sums, sizes = np.bincount(index, gaps.per_record), np.bincount(index).astype(np.float64)
    error = bootstrap_errors(
        np.ones(len(sums), np.int64), lambda draws: ((draws @ sums) / (draws @ sizes))[:, None], seed=seed
    )
    middle, margin = float(gaps.per_record.mean()), Z * float(error[0])
    return middle - margin, middle + margin
