import numpy as np
import pytest
from support.assertions import assert_close

from multimodal.transfer.checks import check_features, check_labels, check_pair, check_row_weights


def test_what_fits_passes_as_float64_and_int64():
    assert check_features(np.ones((2, 3), np.float32)).dtype == np.float64
    labels, count = check_labels(np.array([0, 2], np.int8), 2)
    assert (labels.dtype, count) == (np.int64, 3)
    assert_close(check_row_weights(np.array([1.0, 3.0]), 2), [0.5, 1.5], "float64")


@pytest.mark.parametrize(
    "features, message",
    [(np.ones(3), "one row of features"), (np.ones((0, 3)), "one row"), (np.array([[np.nan]]), "leave these records")],
)
def test_features_that_are_none_are_refused(features, message):
    with pytest.raises(ValueError, match=message):
        check_features(features)


def test_domains_of_two_dims_are_refused():
    with pytest.raises(ValueError, match="same encoder"):
        check_pair(np.ones((2, 3)), np.ones((2, 4)))


@pytest.mark.parametrize(
    "labels, message",
    [
        (np.array([0, 1]), "give one per record"),
        (np.array([0.0, 1.0, 1.0]), "give class indices"),
        (np.array([0, 1, 5]), "give 0 to 1"),
        (np.array([0, 1, -1]), "give 0 to 1"),
    ],
)
def test_labels_that_are_no_class_indices_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        check_labels(labels, 3, 2)


@pytest.mark.parametrize("weights", [np.ones(2), np.zeros(3), np.array([1, -1, 1]), np.array([1, np.inf, 1])])
def test_weights_that_cannot_count_are_refused(weights):
    with pytest.raises(ValueError, match="none negative and not all zero"):
        check_row_weights(weights, 3)
