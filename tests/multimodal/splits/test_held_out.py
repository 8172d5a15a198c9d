"""Held-out rows on which the metric that chooses the best weights is defined, or what is said before the first step."""

from typing import Any

import numpy as np
import pytest

from multimodal.builders.heads import build_target_reader
from multimodal.config import ConfigError, parse_job
from multimodal.decoding import Destandardize, Embedding, PairedEmbeddings, Sigmoid, Softmax
from multimodal.metrics import selection_score, task_metrics
from multimodal.records import Records, read_records
from multimodal.records.targets import read_truth
from multimodal.splits.groups import held_out_rows
from multimodal.splits.held_out import TaskLabels, hold_out, undefined
from multimodal.splits.tables import read_tables
from multimodal.task_types import task_type

INPUTS = {"text": {"encoder": "compact/text"}, "image": {"encoder": "compact/image"}}


def make_job(kind: str = "classification", metric: str = "mean", seed: int = 0, **values: Any):
    target = {"type": kind, "inputs": ["text", "image"]} if kind == "contrastive" else {"type": kind}
    target |= {"positive": "b"} if metric == "y.f1" else {}
    train = {"metric": metric, "seed": seed}
    fusion = {"name": "late"} if kind == "contrastive" else {}
    return parse_job({"inputs": INPUTS, "fusion": fusion, "tasks": {"y": target}, "train": train, **values})


def records(*answers: Any) -> Records:
    return read_records([{"text": f"t {row}", "image": "a.png", "y": answer} for row, answer in enumerate(answers)])


def answers(table: Records, rows: Any) -> list[Any]:
    return [table[row]["y"] for row in rows]


CASES = [
    ("classification", ["a", "b", ""]),
    ("classification", ["a", "a"]),
    ("classification", ["z", "y"]),
    ("classification", ["z", "a"]),
    ("classification", ["", ""]),
    ("multilabel", [";", ";"]),
    ("multilabel", ["a", ";", "a;b"]),
    ("multilabel", ["z", ";"]),
    ("multilabel", ["a", "a"]),
    ("multilabel", ["", ""]),
    ("regression", ["1", "1"]),
    ("regression", ["1", "2"]),
    ("regression", ["1", ""]),
    ("regression", ["3", "3", "-1"]),
    ("embedding", ["a", "b", "c"]),
    ("embedding", ["a", "b", "a"]),
    ("embedding", ["z", "z", ""]),
    ("embedding", ["a"]),
]
DECODINGS = {
    "classification": Softmax(("a", "b")),
    "multilabel": Sigmoid(("a", "b"), (0.9, 0.9)),
    "regression": Destandardize(0.0, 1.0),
    "embedding": Embedding(),
}


@pytest.mark.parametrize(("kind", "cells"), CASES)
def test_a_metric_is_said_to_be_defined_where_it_is(kind, cells):
    train = records("a", "b", "a", "b") if kind != "regression" else records(1, 2, 3)
    table, labels = records(*cells), {"labels": ["a", "b"]}
    truth = read_truth(build_target_reader(make_job(kind), "y", labels), table, range(len(table)))
    width = 1 if kind == "regression" else 2
    outputs = np.random.default_rng(0).normal(size=(len(truth.rows), width)) - 9  # of a model that gives no label
    metrics = {"y": task_metrics(DECODINGS[kind], outputs, truth.targets, unknown=truth.unknown)}
    for metric in ("mean", *(f"y.{name}" for name in task_type(kind).metrics)):
        why = undefined(make_job(kind, metric), [train], table)
        if why is None:
            selection_score(metrics, metric, {"y": task_type(kind)})
        elif (kind, metric) not in (("classification", "y.f1"), ("classification", "y.average_precision")):
            # these are 0 or 1 whatever is answered where all records have one class, which chooses nothing
            with pytest.raises(ValueError, match="not defined on these records"):
                selection_score(metrics, metric, {"y": task_type(kind)})


@pytest.mark.parametrize(("images", "defined"), [(["a", "b"], True), (["a", ""], False), (["", ""], False)])
def test_a_contrastive_task_needs_two_pairs(images, defined):
    table = read_records([{"text": "red", "image": image} for image in images])
    why = undefined(make_job("contrastive"), [table], table)
    assert (why is None) == defined
    pairs = TaskLabels(make_job("contrastive"), "y", table)
    known = sum(pairs.read(row) is not None for row in range(2))
    scores = task_metrics(PairedEmbeddings(("text", "image")), np.eye(4)[:known], np.zeros((known, 2), np.int64))
    assert (scores["top1"]["value"] is not None) == defined


# --- which rows ---


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("kind", "cells"),
    [
        ("classification", ["a", "b"] * 20),
        ("regression", list(range(40))),
        ("multilabel", ["a;b", "b"] * 20),
        ("embedding", ["a", "b"] * 20),
        ("classification", [*["a"] * 39, ""]),  # the heads say that there is one class
    ],
)
def test_rows_that_were_held_out_before_still_are(kind, cells, seed):
    expected = held_out_rows(len(cells), 4, groups=None, seed=seed)
    assert list(hold_out(records(*cells), make_job(kind, seed=seed))) == expected


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("kind", "metric", "cells"),
    [
        ("regression", "mean", [*[0.0] * 18, *[3.0] * 2]),
        ("regression", "y.r2", [*[0] * 998, 1, 2]),
        ("regression", "mean", [*[""] * 95, 1, 2, 3, 4, 5]),
        ("classification", "y.auc", [*["a"] * 27, *["b"] * 3]),
        ("classification", "mean", [*[""] * 60, "a", "b", "a", "b"]),
        ("classification", "mean", ["a", "a", "a", "b"]),
        ("multilabel", "mean", [*[";"] * 300, "x", "y;x"]),
        ("multilabel", "y.auc", [*["x"] * 40, "x;y", "y", "y"]),
        ("embedding", "mean", [chr(ord("a") + row // 2) for row in range(40)]),
        ("embedding", "y.recall_at_1", [*map(str, range(90)), *["twice"] * 3]),
    ],
)
def test_other_rows_are_held_out_where_the_first_do_not_define_the_metric(kind, metric, cells, seed):
    table, task = records(*cells), make_job(kind, metric, seed)
    rows = hold_out(table, task)
    assert rows == hold_out(table, task)
    rest = table.subset(set(range(len(table))) - set(rows))
    assert undefined(task, [rest], table.subset(rows)) is None
    assert TaskLabels(task, "y", rest).witnesses(range(len(rest)), task_type(kind).learns_from)
    assert len(rows) == max(2, len(cells) // 10)


def test_groups_stay_whole_where_other_rows_are_held_out():
    cells = [{"text": "t", "image": "", "y": float(row // 4 > 7), "g": row // 4} for row in range(40)]
    for seed in range(6):
        table, task = read_records(cells), make_job("regression", seed=seed, data={"group": "g"})
        groups = [table[row]["g"] for row in hold_out(table, task)]
        assert all(groups.count(group) == 4 for group in set(groups))


@pytest.mark.parametrize(
    ("kind", "metric", "cells", "message"),
    [
        ("regression", "mean", [*[0] * 30, 1], r"y.r2 \(no two have different answers that training has\).*y.mae"),
        ("classification", "y.auc", [*["a"] * 30, "b"], r"y.auc \(no two have different answers.*y.macro_f1"),
        ("multilabel", "y.micro_f1", [*[";"] * 30, "x"], r"y.micro_f1 \(none has a label\).*y.accuracy"),
        ("embedding", "mean", list("abcdefghij"), r"y.map \(no two have the same label\); name a table in data.valid"),
        ("classification", "mean", [*[""] * 30, "a", "b"], r"y.accuracy \(none has an answer\)"),
    ],
)
def test_what_cannot_be_held_out_is_said_before_the_first_step(kind, metric, cells, message):
    with pytest.raises(ConfigError, match=message + r".*other records of records were tried, too"):
        read_tables(make_job(kind, metric), train=records(*cells))


@pytest.mark.parametrize(
    ("kind", "cells", "valid", "message"),
    [
        ("regression", [1, 2, 3], [2, 2], r"the 2 records of records that choose the best weights do not define y.r2"),
        ("multilabel", ["a", "b"], [";", ";"], r"y.macro_f1 \(none has a label\)"),
        ("embedding", ["a", "b", "a"], ["a", "c"], r"y.map \(no two have the same label\)"),
        ("classification", ["a", "b"], ["", ""], r"y.accuracy \(none has an answer\)"),
        ("contrastive", [1, 2, 3], [1], r"y.top1 \(fewer than two have both inputs\)"),
    ],
)
def test_a_validation_table_that_cannot_choose_is_said_before_the_first_step(kind, cells, valid, message):
    with pytest.raises(ConfigError, match=message):
        read_tables(make_job(kind), train=records(*cells), valid=records(*valid))


def test_one_task_of_several_is_enough_for_the_mean():
    tasks = {"y": {"type": "regression"}, "color": {}}
    table = read_records([{"text": "t", "image": "", "y": 1, "color": "ab"[row % 2]} for row in range(4)])
    assert undefined(make_job(tasks=tasks), [table], table) is None
    why = undefined(make_job(tasks=tasks, metric="y.r2"), [table], table)
    assert why is not None
    assert "y.r2" in why
    assert "color.accuracy" not in why.partition(";")[0]


def test_labels_of_a_source_count_as_those_of_training():
    table, source = records("b", "b", "b", "b"), records("a", "b")
    rows = hold_out(table, make_job(), [source])
    assert list(rows) == held_out_rows(4, 2, groups=None, seed=0)


def test_a_column_that_is_not_there_is_left_to_the_reader_of_the_table():
    table = read_records([{"text": "a"}, {"text": "b"}, {"text": "c"}])
    assert len(hold_out(table, make_job("regression"))) == 2
