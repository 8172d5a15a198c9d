import math

import numpy as np
import pytest
from support.assertions import assert_close, near

from multimodal.metrics.intervals import (
    Share,
    blend_variance,
    bootstrap_errors,
    draw_together,
    effective_size,
    error_interval,
    harmonic_size,
    wilson_interval,
)


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


def test_the_seed_makes_the_draws():
    counts = np.array([30, 70])
    assert bootstrap_errors(counts, share) == bootstrap_errors(counts, share)
    assert bootstrap_errors(counts, share) != bootstrap_errors(counts, share, seed=1)


@pytest.mark.parametrize("value, n", [(0.8, 50), (0.02, 1000), (0.5, 3), (0.999, 2000), (0.3, 17)])
def test_a_plain_share_has_the_interval_of_wilson(value, n):
    drawn = draw_together(np.array([value]), np.array([n])).item()
    assert_close(Share(value, drawn * (1 - drawn) / n, n).interval, wilson_interval(value * n, n), "float64")


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("records", [1, 2.5, 40])
def test_a_share_of_0_or_1_has_the_interval_of_wilson_of_its_records(value, records):
    assert Share(value, 0.0, records).interval == wilson_interval(records * value, records)


def test_a_few_values_have_the_largest_variance_that_there_can_be_and_many_their_own():
    one, many = (blend_variance(0.0, np.array([n]), np.array([0.8])).item() for n in (1, 10_000))
    assert one == pytest.approx(0.8 * 0.2)
    assert many < 1e-7
    own = blend_variance(0.05, np.array([10_000]), np.array([0.8])).item()
    assert own == near(0.05 / 10_000, "smoothed")
    # in between: the sum of squares of the values and that of four more, by the rows that are free to differ
    assert blend_variance(0.05, np.array([6.0]), np.array([0.8])).item() == pytest.approx((0.3 + 0.64) / 9 / 6)


@pytest.mark.parametrize("counts", [[1, 1, 1], [5, 5], [7], [100, 100, 100, 100], [2, 2]])
def test_classes_of_one_size_are_worth_all_their_records(counts):
    assert harmonic_size(np.array(counts)) == pytest.approx(sum(counts))
    assert effective_size(np.ones(sum(counts))) == sum(counts)


def test_a_class_of_one_record_is_drawn_to_the_others():
    shares = draw_together(np.array([1.0, 0.9]), np.array([1, 1000]))
    assert 0.7 < shares[0] < 0.9
    assert shares[1] == near(0.9, "smoothed")


def log_rmse(squares: np.ndarray) -> np.ndarray:
    """Logarithm of the root of the mean of squares [r n] and its standard error by the delta method, [r 2]."""
    mean = squares.mean(axis=1)
    return np.stack([np.log(mean) / 2, squares.std(axis=1) / mean / 2 / math.sqrt(squares.shape[1])], axis=1)


def test_the_interval_of_an_error_is_that_of_the_chi_squared_where_errors_are_normal():
    from scipy.stats import chi2

    n, rng = 4000, np.random.default_rng(0)
    squares = rng.normal(size=n) ** 2
    resamples = log_rmse(squares[rng.integers(n, size=(2000, n))])
    low, high = error_interval(log_rmse(squares[None])[0], resamples)
    expected = [math.sqrt(n / chi2.ppf(share, n)) for share in (0.975, 0.025)]
    # of 2000 resamples a quantile of 2.5 % is off by .06 deviations of 1.96, and the tails of 4000 errors by as much
    assert_close([low - 1, high - 1], np.array(expected) - 1, "10 %")


@pytest.mark.parametrize("sample", [[0.0, 0.0], [0.0, np.nan], [-np.inf, 0.1], [1.0, 1e-9]])
def test_errors_without_spread_have_no_interval(sample):
    resamples = np.tile(sample, (1000, 1)).astype(float)
    assert error_interval(np.array(sample), resamples) is None


@pytest.mark.parametrize("successes, n", [(0, 1), (1, 1), (0, 1000), (1000, 1000), (1, 3)])
def test_wilsons_interval_stays_within_0_and_1_and_holds_the_share(successes, n):
    low, high = wilson_interval(successes, n)
    assert 0.0 <= low <= successes / n <= high <= 1.0
    assert high > low
