import numpy as np
import pytest

from multimodal.transfer.folds import each_fold, most_folds, repeated_folds

LABELS = np.repeat([0, 1, 2], [30, 20, 10])


def test_every_record_is_held_out_once_a_repeat_and_repeats_differ():
    parts = repeated_folds(LABELS, folds=5, repeats=3)
    assert parts.shape == (3, 60)
    assert len({part.tobytes() for part in parts}) == 3
    for repeat in range(3):
        tests = [fold.test for fold in each_fold(parts) if fold.repeat == repeat]
        assert np.array_equal(np.sort(np.concatenate(tests)), np.arange(60))


def test_folds_keep_the_shares_of_the_classes():
    for fold in each_fold(repeated_folds(LABELS, folds=5)):
        assert np.bincount(LABELS[fold.test]).tolist() == [6, 4, 2]


def test_no_group_is_both_trained_on_and_held_out():
    groups = np.arange(60) // 2
    for fold in each_fold(repeated_folds(LABELS, folds=5, repeats=2, groups=groups)):
        assert not set(groups[fold.train]) & set(groups[fold.test])


def test_the_seed_decides():
    assert np.array_equal(repeated_folds(LABELS, seed=4), repeated_folds(LABELS, seed=4))
    assert not np.array_equal(repeated_folds(LABELS, seed=4), repeated_folds(LABELS, seed=5))


def test_a_rare_class_is_no_obstacle():
    assert repeated_folds(np.append(LABELS, 3), folds=5).max() == 4


def test_most_folds_counts_groups():
    assert most_folds(LABELS, LABELS) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"folds": 1}, "at least 2 folds"),
        ({"folds": 40}, "lower folds to 30"),
        ({"groups": np.arange(59)}, "give one per record"),
        ({"groups": LABELS}, "lower folds to 2 or label more"),
    ],
)
def test_what_cannot_be_split_says_why(arguments, message):
    with pytest.raises(ValueError, match=message):
        repeated_folds(LABELS, **arguments)


def test_a_group_that_fills_a_fold_by_itself_leaves_others_usable_or_says_so():
    labels = np.zeros(10, np.int64)
    groups = np.array([0, 0, 0, 0, 0, 0, 0, 1, 2, 3])
    parts = repeated_folds(labels, folds=4, groups=groups)
    assert len(np.unique(parts)) == 4
