import math

import numpy as np
import pytest
from support.assertions import assert_close

from multimodal.metrics.intervals import bootstrap_errors, positive_interval, share_interval, wilson_interval

Z = 1.959963984540054


def share(counts: np.ndarray) -> np.ndarray:
    return counts[:, :1] / counts.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("counts", [[300, 700], [3, 7], [30] + 70 * [1]], ids=["few kinds", "few rows", "many kinds"])
def test_the_bootstrap_error_of_a_share_is_that_of_the_binomial(counts):
    n, p = sum(counts), counts[0] / sum(counts)
    expected = math.sqrt(p * (1 - p) / n)
    error = bootstrap_errors(np.array(counts), share)
    assert error.shape == (1,)
    assert abs(error[0] / expected - 1) < 4 / math.sqrt(2 * 1000)  # the error of a deviation from 1000 draws


def test_every_resample_has_as_many_rows_as_the_sample():
    seen = []

    def count(draws: np.ndarray) -> np.ndarray:
        seen.append(draws)
        return np.zeros((len(draws), 1))

    for counts in ([900, 100], 40 * [1]):
        seen.clear()
        assert bootstrap_errors(np.array(counts), count) == 0.0
        draws = np.concatenate(seen)
        assert draws.shape == (1000, len(counts))
        assert (draws.sum(axis=1) == sum(counts)).all()


def test_a_large_sample_is_resampled_in_parts():
    sizes = []

    def count(draws: np.ndarray) -> np.ndarray:
        sizes.append(len(draws))
        return draws[:, :1].astype(float)

    bootstrap_errors(np.ones(30_000, np.int64), count)
    assert sum(sizes) == 1000
    assert max(sizes) * 30_000 <= 2_000_000


def test_resamples_that_do_not_define_a_statistic_do_not_count():
    def sometimes(counts: np.ndarray) -> np.ndarray:
        return np.stack([np.where(counts[:, 0] > 0, counts[:, 0], np.nan), np.full(len(counts), np.nan)], axis=1)

    errors = bootstrap_errors(np.array([1, 3]), sometimes)
    draws = np.random.default_rng(0).binomial(4, 0.25, 100_000)
    assert abs(errors[0] / draws[draws > 0].std() - 1) < 0.1
    assert errors[1] == 0.0


def test_the_seed_makes_the_draws():
    counts = np.array([30, 70])
    assert bootstrap_errors(counts, share) == bootstrap_errors(counts, share)
    assert bootstrap_errors(counts, share) != bootstrap_errors(counts, share, seed=1)


def test_a_share_is_normal_on_the_logit_scale():
    low, high = share_interval(0.8, 0.05, 100)
    middle, margin = math.log(0.8 / 0.2), Z * 0.05 / (0.8 * 0.2)
    assert_close(
        [math.log(low / (1 - low)), math.log(high / (1 - high))], [middle - margin, middle + margin], "float64"
    )


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_share_without_spread_has_wilsons_interval(value):
    assert share_interval(value, 0.0, 20) == wilson_interval(20 * value, 20)


def test_an_error_is_normal_on_the_log_scale():
    low, high = positive_interval(3.0, 0.2)
    assert_close([math.log(low), math.log(high)], [math.log(3) - Z * 0.2 / 3, math.log(3) + Z * 0.2 / 3], "float64")
    assert positive_interval(0.0, 0.0) == (0.0, 0.0)


def test_a_huge_spread_does_not_overflow():
    low, high = share_interval(1e-6, 0.5, 10)
    assert 0.0 <= low < 1e-6 < high <= 1.0
    assert all(math.isfinite(end) for end in positive_interval(1e-9, 1.0))


@pytest.mark.parametrize("successes, n", [(0, 1), (1, 1), (0, 1000), (1000, 1000), (1, 3)])
def test_wilsons_interval_stays_within_0_and_1_and_holds_the_share(successes, n):
    low, high = wilson_interval(successes, n)
    assert 0.0 <= low <= successes / n <= high <= 1.0
    assert high > low
