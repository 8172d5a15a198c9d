import numpy as np
import pandas as pd
import pytest

from multimodal.check.job import check_job
from multimodal.config import ConfigError, parse_job
from multimodal.records import ManifestError, RecordError, read_records
from multimodal.splits.groups import held_out_rows, record_groups
from multimodal.splits.tables import read_tables
from multimodal.transfer.folds import each_fold, most_repeated_folds


def records(*cells):
    return read_records([{"product": cell, "text": "a"} for cell in cells])


def grouped(group: str = "product", **data):
    inputs = {"text": {"encoder": "compact/text"}}
    return parse_job({"inputs": inputs, "tasks": {"kind": {}}, "data": {"group": group, **data}})


def test_a_missing_cell_is_a_group_of_its_own_and_numbers_are_names():
    assert record_groups(records("a", None, "b", "a", " ", 3.0, "3"), "product").tolist() == [0, 1, 2, 0, 3, 4, 4]
    assert record_groups(records("a"), None) is None


def test_a_column_that_is_absent_or_holds_no_single_value_is_named():
    with pytest.raises(ManifestError, match=r"no column 'prodct'; did you mean 'product'\?"):
        record_groups(records("a"), "prodct")
    with pytest.raises(RecordError, match=r"row 2, column product: .* is a list"):
        record_groups(records("a", ["b"]), "product")


def test_whole_groups_are_held_out_up_to_the_share():
    groups = np.repeat(np.arange(20), 5)
    held = held_out_rows(100, 12, groups=groups, seed=0)
    assert len(held) == 10
    assert not set(groups[held]) & set(np.delete(groups, held))
    assert held == held_out_rows(100, 12, groups=groups, seed=0) != held_out_rows(100, 12, groups=groups, seed=1)


def test_groups_larger_than_the_share_are_held_out_only_where_there_are_no_smaller_ones():
    groups = np.repeat([0, 1, 2], [50, 40, 3])
    assert held_out_rows(93, 9, groups=groups, seed=0) == list(range(90, 93))
    assert held_out_rows(90, 9, groups=groups[:90], seed=0) == list(range(50, 90))


def test_one_group_cannot_be_held_out():
    with pytest.raises(ConfigError, match=r"data.group: all 4 training records are of one group.*data.valid"):
        held_out_rows(4, 2, groups=np.zeros(4, np.int64), seed=0)


def test_the_rows_held_out_of_train_split_no_group():
    rows = [{"text": "a", "kind": "ab"[i % 2], "product": str(i // 4)} for i in range(60)]
    tables = read_tables(grouped(), train=rows)
    products = [{row["product"] for row in table.rows} for table in (tables.train, tables.valid)]
    assert not products[0] & products[1]
    assert len(tables.valid) == 4


def test_folds_are_as_many_as_large_groups_allow():
    labels, groups = np.repeat([0, 1], 30), np.repeat([0, 1, 2], 20)
    parts = most_repeated_folds(labels, folds=5, repeats=2, groups=groups)
    assert int(parts.max()) + 1 == 2
    for fold in each_fold(parts):
        assert not set(groups[fold.train]) & set(groups[fold.test])


def test_check_wants_the_column_in_train_and_names_groups_that_are_in_two_tables(tmp_path):
    for name, product in (("train", "p"), ("valid", "p"), ("test", "q")):
        lines = "".join(f"{name} {i},{'ab'[i % 2]},{product}{i}\n" for i in range(6))
        (tmp_path / f"{name}.csv").write_text(f"text,kind,product\n{lines}")
    tables = {"train": "train.csv", "valid": "valid.csv", "test": "test.csv"}
    found = [(p.file, p.message) for p in check_job(grouped(**tables), tmp_path)]
    assert found == [("valid.csv", "6 groups ('p0', ...) have records in train, too; its scores are optimistic")]
    absent = [p.message for p in check_job(grouped("session", **tables), tmp_path)]
    assert len(absent) == 1
    assert absent[0].startswith("has no column 'session'")


@pytest.mark.parametrize("row", [1, 4])
@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (b"p0", "'b'p0'' is a bytes"),
        (["a", "b"], "'['a', 'b']' is a list"),
        ({"id": 3}, "'{'id': 3}' is a dict"),
        ([], "'[]' is a list"),
        ([["a"]], "'[['a']]' is a list"),
    ],
)
def test_check_names_a_group_that_is_no_single_value(cell, message, row, tmp_path):
    rows = [{"text": f"text {i}", "kind": "ab"[i % 2], "product": None} for i in range(6)]
    rows[row - 1]["product"] = cell
    pd.DataFrame(rows).to_parquet(tmp_path / "train.parquet")
    (found,) = check_job(grouped(train="train.parquet"), tmp_path)
    assert (found.severity, found.file, found.row, found.column) == ("error", "train.parquet", row, "product")
    assert found.message.startswith(message)
