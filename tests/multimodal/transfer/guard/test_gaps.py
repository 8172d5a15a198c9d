import numpy as np
import pytest
from support.assertions import assert_close

from multimodal.transfer.folds import each_fold, repeated_folds
from multimodal.transfer.guard.gaps import paired_gaps, record_scores, strongest_baseline

LABELS = np.tile([0, 1], 20)
PARTS = repeated_folds(LABELS, folds=4, repeats=2)


def test_scores_are_held_out_ones():
    def arm(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        assert not set(train) & set(test)
        return test.astype(float)

    assert_close(record_scores(arm, PARTS), np.stack([np.arange(40.0)] * 2), "float64")


def test_an_arm_against_itself_has_no_gap():
    scores = np.random.default_rng(0).integers(2, size=PARTS.shape)
    gaps = paired_gaps(scores, scores, PARTS)
    assert not gaps.per_fold.any()
    assert not gaps.per_record.any()
    assert gaps.test_share == pytest.approx(1 / 3)


def test_weights_give_balanced_accuracy():
    labels = np.repeat([0, 1], [30, 10])
    parts = repeated_folds(labels, folds=5)
    right = np.where(labels == 0, 1.0, 0.0)[None]
    weights = len(labels) / (2 * np.bincount(labels)[labels])
    gaps = paired_gaps(right, np.zeros_like(right), parts, weights=weights)
    assert_close(gaps.per_record.mean(), 0.5, "float64")
    assert_close(gaps.per_fold, np.full(5, 0.5), "float64")


def test_the_strongest_baseline_is_chosen_without_looking_at_the_fold():
    rng = np.random.default_rng(0)
    lucky = {str(index): rng.integers(2, size=PARTS.shape).astype(float) for index in range(20)}  # all equally good
    scores = strongest_baseline(lucky, PARTS)
    optimistic = max(values.mean() for values in lucky.values())
    assert optimistic > 0.6
    assert scores.mean() < optimistic
    clearly = {"good": np.ones(PARTS.shape), "bad": np.zeros(PARTS.shape)}
    assert strongest_baseline(clearly, PARTS).all()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="from the same folds"):
        paired_gaps(np.ones((2, 40)), np.ones((2, 39)), PARTS)
    with pytest.raises(ValueError, match="one finite number per record"):
        record_scores(lambda train, test: np.ones(3), PARTS)
    with pytest.raises(ValueError, match="give at least one"):
        strongest_baseline({}, PARTS)


def test_folds_come_repeat_by_repeat():
    assert [fold.repeat for fold in each_fold(PARTS)] == [0] * 4 + [1] * 4
