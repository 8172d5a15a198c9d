"""Which tables and methods make which setting, and which make none."""

from typing import Any

import pytest

from multimodal.config import ConfigError, Job, parse_job
from multimodal.config.setting import setting_of
from multimodal.records import read_records
from multimodal.splits.tables import read_tables

ROWS = [{"text": f"text {number}", "product": "ab"[number % 2], "price": str(number)} for number in range(30)]


def make_job(transfer: dict[str, Any] | None = None, **changes: Any) -> Job:
    tasks: dict[str, Any] = {"product": {}}
    inputs = {"text": {"encoder": "compact/text"}}
    return parse_job({"inputs": inputs, "tasks": tasks, "transfer": transfer or {}, **changes})


DANN, MCC, AUTO, RATIO = (
    {"adapt": {"method": "dann"}},
    {"adapt": {"method": "mcc"}},
    {"source": {"weight": "auto"}},
    {"source": {"method": "density_ratio"}},
)


@pytest.mark.parametrize(
    ("transfer", "given", "setting"),
    [
        ({}, {"train"}, "inductive"),
        (AUTO, {"train", "source", "valid"}, "inductive"),
        (MCC, {"train", "unlabelled"}, "inductive"),
        (DANN | AUTO, {"train", "source", "unlabelled"}, "inductive"),
        (DANN, {"source", "unlabelled"}, "transductive"),
        (RATIO, {"source", "unlabelled", "source_valid", "test"}, "transductive"),
    ],
)
def test_the_tables_name_the_setting(transfer, given, setting):
    assert setting_of(make_job(transfer), given) == setting


def test_a_job_without_any_label_is_unsupervised():
    views = {
        "inputs": {"text": {"encoder": "compact/text"}, "other": {"column": "text", "share": "text"}},
        "tasks": {"match": {"type": "contrastive", "inputs": ["text", "other"]}},
        "fusion": {"name": "late"},
    }
    assert setting_of(parse_job(views), {"train"}) == "unsupervised"


@pytest.mark.parametrize(
    ("transfer", "given", "match"),
    [
        ({}, {"train", "source"}, "data.source is read by transfer.source, which is not set"),
        (DANN, {"train", "source", "unlabelled"}, "data.source is read by transfer.source, which is not set"),
        (AUTO, {"train"}, "transfer.source weights source records, and there are none"),
        (DANN, {"train", "unlabelled"}, "dann compares source with target records; name a table in data.source"),
        ({}, {"train", "unlabelled"}, "data.unlabelled is read by transfer.adapt, .* leave the table out"),
        (RATIO, {"train", "source", "unlabelled"}, "data.unlabelled is read by transfer.adapt"),
        (MCC, {"train"}, "mcc needs target inputs; name their table in data.unlabelled"),
        ({}, {"train", "source_valid"}, "data.source_valid chooses where there are no target labels"),
        ({}, {"source"}, "data.source without data.train needs the target inputs"),
        (DANN, {"source", "unlabelled", "valid"}, "data.valid holds target labels, .* name source records in data.sou"),
        ({}, {"source", "unlabelled"}, "data.unlabelled is read by transfer.adapt"),
        ({"source": {"weight": 0.3}}, {"source", "unlabelled"}, "transfer.source.weight is beside a target record"),
        (AUTO, {"source", "unlabelled"}, "method is uniform, which changes nothing without data.train"),
    ],
)
def test_a_table_that_nothing_reads_and_a_method_without_its_table_are_refused(transfer, given, match):
    with pytest.raises(ConfigError, match=match):
        setting_of(make_job(transfer), given)


def test_methods_that_look_at_classes_need_some():
    with pytest.raises(ConfigError, match="mcc needs predicted classes, and no task is a classification"):
        setting_of(make_job(MCC, tasks={"price": {"type": "regression"}}), {"train", "unlabelled"})


@pytest.mark.parametrize(
    ("adapt", "match"),
    [
        ({"method": "mcc", "on": ["text"]}, "on is .* and method mcc; name inputs for deep_coral, mmd, dann, cdan"),
        ({"method": "dann", "on": []}, "name inputs for"),
        ({"method": "dann", "on": ["image"]}, "transfer.adapt.on: there is no input 'image'; there are text"),
    ],
)
def test_what_is_compared_must_be_there(adapt, match):
    with pytest.raises(ConfigError, match=match):
        make_job({"adapt": adapt})


# --- reading -----------------------------------------------------------------------------------------------------


def test_target_labels_are_dropped_when_the_unlabelled_table_is_read():
    given = read_records(ROWS)
    tables = read_tables(make_job(DANN), source=ROWS, unlabelled=given)
    assert tables.unlabelled is not None
    assert tables.unlabelled.columns == ("text", "price")  # price is no label column of this job
    assert not any("product" in row for row in tables.unlabelled.rows)
    assert given.rows[0]["product"] == "a"  # what was handed over is as it was
    assert all(origin != 2 or table is tables.unlabelled for origin, table in tables.training())


def test_in_the_transductive_setting_source_records_train_and_validate():
    tables = read_tables(make_job(DANN), source=ROWS, unlabelled=ROWS[:5])
    assert (len(tables.train), len(tables.valid), tables.source) == (27, 3, None)
    assert [origin for origin, _ in tables.training()] == [1, 2]
    named = read_tables(make_job(DANN), source=ROWS, source_valid=ROWS[:4], unlabelled=ROWS[:5])
    assert (len(named.train), len(named.valid), named.held_out) == (30, 4, None)


def test_every_table_that_is_a_file_is_hashed(tmp_path):
    paths = {name: tmp_path / f"{name}.csv" for name in ("source", "source_valid", "unlabelled", "test")}
    for number, path in enumerate(paths.values()):
        path.write_text("text,product\n" + "".join(f"text {number}{row},{'ab'[row % 2]}\n" for row in range(5)))
    assert read_tables(make_job(DANN), **paths).hashes.keys() == paths.keys()


def test_a_source_with_too_few_records_is_refused():
    with pytest.raises(ConfigError, match=r"there are 1 training records, .* name a table in data.source, or pass so"):
        read_tables(make_job(DANN), source=ROWS[:1], unlabelled=ROWS)
    with pytest.raises(ConfigError, match=r"the unlabelled table has no record; leave data.unlabelled out"):
        read_tables(make_job(DANN), source=ROWS, unlabelled=[])
