import math
from fractions import Fraction

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight
from support.assertions import assert_close

from encoders.preprocessing import UnreadableValueError
from multimodal.records import read_records
from multimodal.records.cells import content_number
from multimodal.records.targets import (
    ClassTarget,
    LabelSetTarget,
    NumberTarget,
    PairTarget,
    balanced_weights,
    class_counts,
    class_readers,
    mean_and_deviation,
    parse_number,
    read_truth,
)
from multimodal.task_types import task_type

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


@pytest.mark.parametrize("target", [ClassTarget, LabelSetTarget])
@pytest.mark.parametrize(
    ("stored", "cell", "place"),
    [
        (("caf\u00e9", "tea"), "cafe\u0301", 0),
        (("cafe\u0301", "tea"), "caf\u00e9", 0),  # of a run that was trained before labels were composed
        (("cafe\u0301", "tea"), "cafe\u0301", 0),
        (("cafe\u0301", "caf\u00e9"), "caf\u00e9", 1),
        (("tea", "Mu\u0308sli"), " Müsli ", 1),
    ],
)
def test_labels_are_found_in_either_form_of_unicode(target, stored, cell, place):
    reader = target("x", stored)
    found = reader.read({"x": cell})
    assert found is not None
    assert int(found if target is ClassTarget else found.argmax()) == place
    assert reader.unseen({"x": cell}) == ()


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


@pytest.mark.parametrize(
    ("base", "power", "sign"), [(10, 309, 1), (10, 400, -1), (10, 5000, 1), (2, 1024, 1), (7, 999, 1)]
)
@pytest.mark.parametrize("number", [int, Fraction])
def test_a_number_that_no_float_holds_is_refused_with_its_size(number, base, power, sign):
    digits = int(power * math.log10(base)) + 1
    message = rf"a number of {digits} digits is not a finite number as floats have them \(at most 1.8e\+308\)"
    with pytest.raises(UnreadableValueError, match=message):
        NumberTarget("price").read({"price": number(sign * base**power)})


def test_a_whole_number_that_python_does_not_write_out_is_no_label():
    with pytest.raises(UnreadableValueError, match=r"is a whole number of too many digits .*; give it as text"):
        class_counts([10**5000])


@pytest.mark.parametrize(
    "numbers",
    [
        [0.1, 0.2, 0.7],
        [1e30, 2e30, -5e30],
        [1.7e9, 1.7e9 + 1, 1.7e9 + 2],
        list(np.random.default_rng(0).normal(size=1000) * 1e5),
        [1e-30, 3e-30],
        [3, 3, 4],
    ],
)
def test_mean_and_deviation_of_ordinary_numbers_are_those_of_numpy_to_the_last_bit(numbers):
    assert mean_and_deviation(numbers) == (float(np.mean(numbers)), float(np.std(numbers)))


@pytest.mark.parametrize("unit", [1e-305, 1e-300, 1e-200, 1e200, 1e250, 1e299])
def test_mean_and_deviation_do_not_leave_the_floats(unit):
    mean, deviation = mean_and_deviation([1 * unit, 2 * unit, 6 * unit])
    assert_close(mean / unit, 3.0, "float64")
    assert_close(deviation / unit, float(np.std([1, 2, 6])), "float64")


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ([], r"has 0 distinct numbers \(none\); regression needs at least two"),
        ([2.0, 2.0], r"has 1 distinct numbers \(2.0\); regression needs at least two"),
        ([1e-320, 1e-320], r"has 1 distinct numbers \(1e-320\)"),
        ([1.7e308, 1.0], r"has the number 1.7e\+308, and beyond 1e\+300 floats .* write the column in a larger unit"),
        ([1.0, -2e301], r"has the number -2e\+301, and beyond"),
        ([5e-324, 1e-323], r"has numbers from 4.94066e-324 to 9.88131e-324, which differ by less than floats can div"),
        ([1e-310, 2e-310], "write the column in a smaller unit"),
    ],
)
def test_numbers_of_which_nothing_can_be_learned_are_refused_with_the_true_reason(numbers, reason):
    with pytest.raises(ValueError, match=reason):
        mean_and_deviation(numbers)


def test_counts_leave_out_empty_cells_and_count_a_label_once_per_record():
    assert class_counts(["a", " a", None, "b", ""]) == {"a": 2, "b": 1}
    assert task_type("multilabel").count(["a;b;a", None, ["b"], ";", ""]) == {"a": 1, "b": 2}


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
