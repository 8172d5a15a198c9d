import math

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from encoders.preprocessing import UnreadableValueError
from multimodal.content import content_number
from multimodal.records import read_records
from multimodal.targets import (
    ClassTarget,
    LabelSetTarget,
    NumberTarget,
    PairTarget,
    balanced_weights,
    class_counts,
    class_readers,
    label_counts,
    parse_number,
    read_truth,
)

LABELS = ("3", "apple", "pear")


@pytest.mark.parametrize(("cell", "index"), [("pear", 2), (" apple ", 1), (3, 0), (3.0, 0), (np.int64(3), 0)])
def test_a_class_is_its_index_however_the_cell_is_written(cell, index):
    target = ClassTarget("product", LABELS).read({"product": cell})
    assert target == index
    assert target.dtype == np.int64


@pytest.mark.parametrize("row", [{}, {"product": None}, {"product": " "}, {"product": math.nan}, {"product": "plum"}])
def test_a_class_that_is_missing_or_not_of_training_is_not_known(row):
    assert ClassTarget("product", LABELS).read(row) is None


@pytest.mark.parametrize(
    ("cell", "expected"),
    [("apple;pear", [0, 1, 1]), (["pear", "pear"], [0, 0, 1]), (";", [0, 0, 0]), ([], [0, 0, 0]), ("plum", [0, 0, 0])],
)
def test_a_set_of_labels_is_a_row_of_zeros_and_ones(cell, expected):
    target = LabelSetTarget("tags", LABELS).read({"tags": cell})
    assert target is not None
    assert target.tolist() == expected
    assert target.dtype == np.float32


@pytest.mark.parametrize("row", [{}, {"tags": ""}, {"tags": None}])
def test_a_missing_set_of_labels_is_not_known(row):
    assert LabelSetTarget("tags", LABELS).read(row) is None


def test_a_large_number_keeps_all_its_digits():
    # float32 holds 7 digits: seconds since 1970 would be rounded to two minutes
    target = NumberTarget("time").read({"time": "1700000001"})
    assert target is not None
    assert float(target) == 1_700_000_001


def test_a_number_that_is_missing_is_not_known():
    assert NumberTarget("price").read({"price": ""}) is None
    assert NumberTarget("price").read({}) is None


@pytest.mark.parametrize("reader", [ClassTarget("x", LABELS), LabelSetTarget("x", LABELS), NumberTarget("x")])
def test_a_placeholder_has_the_shape_and_type_of_a_target(reader):
    cell = "3" if isinstance(reader, NumberTarget) else "apple"
    target = reader.read({"x": cell})
    assert (reader.placeholder.shape, reader.placeholder.dtype) == (target.shape, target.dtype)


@pytest.mark.parametrize(
    ("cell", "number"), [("2.5", 2.5), (" -1e3 ", -1000.0), (7, 7.0), (0, 0.0), (np.float32(2), 2.0)]
)
def test_numbers_are_read_as_floats(cell, number):
    assert parse_number(cell) == number


@pytest.mark.parametrize("cell", [None, "", "  ", math.nan])
def test_an_empty_cell_is_no_number(cell):
    assert parse_number(cell) is None


@pytest.mark.parametrize("cell", ["cheap", "2,5", "inf", "nan", math.inf, [1], "1e400"])
def test_a_cell_that_is_no_finite_number_is_refused_and_quoted(cell):
    with pytest.raises(UnreadableValueError, match="is not a finite number; this task is a regression") as caught:
        NumberTarget("price").read({"price": cell})
    assert repr(cell) in str(caught.value)


def test_counts_leave_out_empty_cells_and_count_a_label_once_a_record():
    assert class_counts(["a", " a", None, "b", ""]) == {"a": 2, "b": 1}
    assert label_counts(["a;b;a", None, ["b"], ";", ""]) == {"a": 1, "b": 2}


def test_balanced_weights_are_those_of_scikit_learn():
    counts = [30, 10, 2]
    labels = np.repeat(np.arange(3), counts)
    np.testing.assert_allclose(
        balanced_weights(counts), compute_class_weight("balanced", classes=np.arange(3), y=labels)
    )


def test_balanced_weights_of_an_absent_class_are_zero_and_the_mean_weight_stays_one():
    weights = balanced_weights([6, 0, 2])
    assert weights[1] == 0
    assert (6 * weights[0] + 2 * weights[2]) / 8 == pytest.approx(1)


# --- the answers of a table --------------------------------------------------------------------------------------


def test_a_pair_is_known_where_a_record_has_both_inputs():
    reader = PairTarget(("photo", "text"))
    rows = [{"photo": "a.jpg", "text": "red"}, {"photo": "a.jpg", "text": " "}, {"text": "red"}, {}]
    expected = [content_number("a.jpg"), content_number("red")]
    first, *others = (reader.read(row) for row in rows)
    assert (first.tolist(), others) == (expected, [None, None, None])
    assert (reader.column, reader.placeholder.tolist(), reader.unseen(rows[0])) == (None, [0, 0], ())
    truth = read_truth(reader, read_records(rows), range(4))
    assert (truth.targets.tolist(), truth.rows.tolist(), truth.targets.dtype) == ([expected], [0], np.int64)


def test_truth_holds_the_known_answers_with_their_rows():
    records = read_records([{"product": cell} for cell in ("pear", None, "3", "apple", "pear")])
    truth = read_truth(ClassTarget("product", LABELS), records, [4, 1, 0, 3])
    assert truth.rows.tolist() == [4, 0, 3]
    assert truth.targets.tolist() == [2, 2, 1]
    assert truth.unknown == ()


def test_a_class_that_training_lacked_counts_as_one_that_no_answer_can_be():
    records = read_records([{"product": cell} for cell in ("plum", "pear", "fig", "plum ", "")])
    truth = read_truth(ClassTarget("product", LABELS), records, range(5))
    assert truth.rows.tolist() == [0, 1, 2, 3]
    assert truth.targets.tolist() == [3, 2, 4, 3]
    assert truth.unknown == ("plum", "fig")


@pytest.mark.parametrize(
    ("reader", "shape"),
    [(ClassTarget("x", LABELS), (0,)), (LabelSetTarget("x", LABELS), (0, 3)), (NumberTarget("x"), (0,))],
)
def test_truth_of_a_table_without_answers_is_empty_and_keeps_its_shape(reader, shape):
    truth = read_truth(reader, read_records([{"x": None}]), [0])
    assert (truth.targets.shape, truth.rows.tolist()) == (shape, [])
    assert truth.targets.dtype == reader.placeholder.dtype


def test_labels_that_training_lacked_get_a_column_of_their_own():
    records = read_records([{"tags": "pear;plum"}, {"tags": ""}, {"tags": "3"}])
    truth = read_truth(LabelSetTarget("tags", LABELS), records, range(3))
    assert truth.unknown == ("plum",)
    assert truth.rows.tolist() == [0, 2]
    assert truth.targets.tolist() == [
        [label == "pear" for label in LABELS] + [1],
        [label == "3" for label in LABELS] + [0],
    ]


def test_open_sets_are_no_classes_to_tell_apart():
    targets = {"color": ClassTarget("color", ("red",)), "product": ClassTarget("product", ("a",), open_set=True)}
    assert list(class_readers({**targets, "price": NumberTarget("price")})) == ["color"]
