import hashlib
from pathlib import Path
from typing import Any

import pytest

from multimodal.config import ConfigError, Job, parse_job
from multimodal.splits.tables import read_tables


def make_job(seed: int = 0, **data: Any) -> Job:
    inputs = {"text": {"encoder": "compact/text"}}
    return parse_job({"inputs": inputs, "tasks": {"product": {}}, "train": {"seed": seed}, "data": data})


def rows(n: int) -> list[dict[str, str]]:
    return [{"text": f"text {index}", "product": "a"} for index in range(n)]


def write(path: Path, n: int) -> str:
    path.write_text("text,product\n" + "".join(f"text {index},a\n" for index in range(n)))
    return str(path)


def test_a_tenth_of_train_is_held_out_where_there_is_no_validation_table():
    tables = read_tables(make_job(), train=rows(47))
    assert tables.held_out is not None
    assert len(tables.held_out) == len(tables.valid) == 4
    assert [row["text"] for row in tables.valid.rows] == [f"text {index}" for index in tables.held_out]
    rest = [index for index in range(47) if index not in tables.held_out]
    assert [row["text"] for row in tables.train.rows] == [f"text {index}" for index in rest]
    assert tables.test is None


def test_what_is_held_out_depends_on_the_seed_alone():
    held_out = [read_tables(make_job(seed), train=rows(200)).held_out for seed in (0, 0, 1)]
    assert held_out[0] == held_out[1]
    assert held_out[0] != held_out[2]


def test_of_two_records_one_trains_and_one_validates():
    tables = read_tables(make_job(), train=rows(2))
    assert (len(tables.train), len(tables.valid)) == (1, 1)


def test_held_out_records_keep_their_place_in_the_whole_table(tmp_path):
    tables = read_tables(make_job(train=write(tmp_path / "train.csv", 30)))
    assert tables.held_out is not None
    for position, row in enumerate(tables.held_out):
        assert tables.valid.place(position, "text") == f"train.csv, row {row + 1}, column text"


def test_a_validation_table_leaves_train_whole(tmp_path):
    names: dict[str, Any] = {}
    for name, n in (("train", 12), ("valid", 3), ("test", 5)):  # of one file name, in three folders
        (tmp_path / name).mkdir()
        names[name] = write(tmp_path / name / "table.csv", n)
    tables = read_tables(make_job(**names))
    assert [len(table) for table in tables.all()] == [12, 3, 5]
    assert tables.held_out is None
    assert tables.hashes == {name: hashlib.sha256(Path(path).read_bytes()).hexdigest() for name, path in names.items()}


def test_a_table_that_is_handed_over_stands_in_the_place_of_the_named_one(tmp_path):
    tables = read_tables(make_job(train=write(tmp_path / "train.csv", 12)), train=rows(5), valid=rows(3), root=tmp_path)
    assert [len(table) for table in tables.all()] == [5, 3]
    assert tables.train.root == tmp_path
    assert tables.hashes == {}


def test_the_task_says_whether_media_may_lie_outside():
    assert read_tables(make_job(allow_outside=True), train=rows(4), valid=rows(4)).train.allow_outside is True
    assert read_tables(make_job(), train=rows(4), valid=rows(4)).valid.allow_outside == "links"


@pytest.mark.parametrize("train", [None, [], rows(1)])
def test_too_few_training_records_are_refused(train):
    count = len(train or [])
    with pytest.raises(
        ConfigError, match=f"there are {count} training records, and at least 2 are needed; name a table"
    ):
        read_tables(make_job(), train=train)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_table_without_a_record_is_refused_before_training(split):
    with pytest.raises(ConfigError, match=f"the {split} table has no record; leave data.{split} out, or add records"):
        read_tables(make_job(), **{"train": rows(4), split: []})  # type: ignore[arg-type]
