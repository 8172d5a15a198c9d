import numpy as np
import pytest
from scipy.stats import t, ttest_1samp
from sklearn.linear_model import LogisticRegression
from support.assertions import assert_close, near
from support.digits import digits, few, random_features

from multimodal.transfer.folds import repeated_folds
from multimodal.transfer.guard.gaps import Gaps, paired_gaps, record_scores
from multimodal.transfer.guard.verdict import (
    corrected_t_interval,
    judge,
    paired_bootstrap_interval,
    simplest_within_one_error,
)


def gaps_of(values: list[float], share: float = 0.25) -> Gaps:
    return Gaps(np.array(values), np.array(values), share)


# --- closed forms ------------------------------------------------------------------------------------------------


def test_without_overlap_the_interval_is_students():
    values = [0.1, 0.2, 0.05, 0.3]
    expected = ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert_close(corrected_t_interval(gaps_of(values, 0.0)), [expected.low, expected.high], "float64")


def test_overlap_widens_it_by_nadeau_and_bengios_factor():
    values = list(np.random.default_rng(0).normal(size=15))
    plain, wide = (corrected_t_interval(gaps_of(values, share)) for share in (0.0, 0.25))
    assert_close((wide[1] - wide[0]) / (plain[1] - plain[0]), np.sqrt((1 / 15 + 0.25) * 15), "float64")


def test_the_bootstraps_error_is_that_of_a_mean():
    values = np.random.default_rng(0).normal(size=400)
    low, high = paired_bootstrap_interval(Gaps(values, values, 0.25))
    assert high - low == near(2 * 1.96 * values.std() / 20, "10 %")


def test_records_of_one_group_count_once_in_the_bootstrap():
    values = np.random.default_rng(0).normal(size=100)
    alone = paired_bootstrap_interval(Gaps(values, values, 0.25))
    copies = np.repeat(values, 4)
    grouped = paired_bootstrap_interval(Gaps(copies, copies, 0.25, np.repeat(np.arange(100), 4)))
    assert_close(grouped, alone, "float64")


def test_the_verdict_says_how_many_more_labels_it_needs():
    values = [0.3, -0.05, 0.1, 0.15]
    low, high = corrected_t_interval(gaps_of(values))
    verdict = judge(gaps_of(values))
    assert verdict.kind == "inconclusive"
    assert verdict.bootstrap[0] > 0
    assert verdict.more_labels == pytest.approx(((high - low) / 2 / 0.125) ** 2)
    assert "times as many labels" in str(verdict)


@pytest.mark.parametrize(
    "values",
    [[0.3, -0.2, 0.1, 0.1], [0.0, 0.01, -0.02, 0.0], [0.1, -0.1], [-0.3, 0.1, 0.1, -0.2], [0.5, -0.4, 0.2, -0.1, 0.0]],
)
def test_a_gap_within_chance_needs_no_number_of_labels(values):
    verdict = judge(gaps_of(values))
    assert (verdict.kind, verdict.more_labels) == ("inconclusive", None)
    assert "times as many labels" not in str(verdict)


@pytest.mark.parametrize("folds, repeats", [(5, 3), (2, 4), (3, 1), (10, 2), (4, 5)])
def test_repeats_add_no_degrees_of_freedom(folds, repeats):
    values = np.random.default_rng(1).normal(size=folds * repeats)
    low, high = corrected_t_interval(Gaps(values, values, 0.25, repeats=repeats))
    error = values.std(ddof=1) * np.sqrt(1 / len(values) + 0.25)
    assert_close(high - low, 2 * t.ppf(0.975, folds - 1) * error, "float64")


def test_the_gaps_of_repeated_folds_know_of_the_repeats():
    parts = repeated_folds(np.arange(30) % 2, folds=5, repeats=3)
    assert paired_gaps(np.ones(parts.shape), np.zeros(parts.shape), parts).repeats == 3


def test_no_gap_and_no_spread_is_inconclusive_and_not_exact():
    verdict = judge(gaps_of([0.0] * 15))
    assert (verdict.kind, verdict.more_labels) == ("inconclusive", None)
    assert verdict.interval == (-0.2, 0.2)


# --- behaviour ---------------------------------------------------------------------------------------------------


def verdict_of(features: np.ndarray, baseline: np.ndarray, labels: np.ndarray) -> str:
    parts = repeated_folds(labels, folds=5, repeats=3)

    def arm(values: np.ndarray) -> np.ndarray:
        def score(train: np.ndarray, test: np.ndarray) -> np.ndarray:
            model = LogisticRegression(max_iter=2000).fit(values[train], labels[train])
            return model.predict(values[test]) == labels[test]

        return record_scores(score, parts)

    return judge(paired_gaps(arm(features), arm(baseline), parts)).kind


def test_a_harmful_encoder_is_found_with_enough_labels_and_a_useful_one_too():
    pixels, labels = digits()
    rows = few(labels, 20)
    poor = random_features(6)[rows]  # six random features say little of ten classes
    assert verdict_of(poor, pixels[rows], labels[rows]) == "negative"
    assert verdict_of(pixels[rows], poor, labels[rows]) == "positive"


def test_two_encoders_alike_are_inconclusive():
    _, labels = digits()
    rows = few(labels, 5)
    assert verdict_of(random_features(64, 1)[rows], random_features(64, 2)[rows], labels[rows]) == "inconclusive"


def test_a_single_fold_is_refused():
    with pytest.raises(ValueError, match="give at least 2"):
        corrected_t_interval(gaps_of([0.1]))


# --- one standard error ------------------------------------------------------------------------------------------


def test_the_simpler_candidate_wins_only_within_one_error_of_the_best():
    best = np.array([0.8, 0.9, 1.0])  # mean .9, error .0577
    assert simplest_within_one_error({"simple": best - 0.05, "rich": best}) == "simple"
    assert simplest_within_one_error({"simple": best - 0.06, "rich": best}) == "rich"


@pytest.mark.parametrize("scores", [{}, {"a": np.ones(1)}, {"a": np.ones(2), "b": np.ones(3)}])
def test_candidates_without_the_same_folds_are_refused(scores):
    with pytest.raises(ValueError, match="the same two or more folds"):
        simplest_within_one_error(scores)
