"""Checks of a training before its first step."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.logs import logged
from support.tiny_models import make_rows

import multimodal as mm
from multimodal.check.first_look import look_first
from multimodal.job import TrainingSetup
from multimodal.records import RecordError
from multimodal.splits.tables import read_tables


def make_job(**data: Any) -> mm.Job:
    return mm.Job.model_validate(
        {
            "inputs": {
                "image": {"encoder": "compact/image", "options": {"image_size": 32}},
                "text": {"encoder": "compact/text"},
            },
            "tasks": {"color": {}},
            "data": {"workers": 0, **data},
            "transfer": {"guard": "off"},
            "train": {"epochs": 1, "batch_size": 8},
        }
    )


def looked(job: mm.Job, folder: Path, **tables: Any) -> list[str]:
    with logged() as lines:
        look_first(TrainingSetup.build(job, read_tables(job, root=folder, **tables), Path()))
    return lines


@pytest.fixture
def rows(tmp_path):
    return make_rows(tmp_path, 40)


def broken(rows: list[dict[str, Any]], row: int, **cells: Any) -> list[dict[str, Any]]:
    return [{**record, **(cells if number == row else {})} for number, record in enumerate(rows)]


def test_a_clean_job_says_nothing(rows, tmp_path):
    assert looked(make_job(), tmp_path, train=rows, valid=rows[:6]) == []


@pytest.mark.parametrize(
    ("table", "row", "cells", "message"),
    [
        ("train", 33, {"image": "gone.png"}, "records, row 34, column image: 'gone.png' does not exist"),
        ("test", 5, {"image": "../out.png"}, r"records, row 6, column image: '../out.png' has '..' in it"),
        ("valid", 3, {"image": "/etc/hosts"}, "row 4, column image: '/etc/hosts' is an absolute path"),
        ("train", 2, {"text": 7}, "row 3, column text"),
        ("test", 1, {"image": "torn.png"}, "row 2, column image: 'torn.png': is "),
        ("valid", 5, {"color": ["red"]}, "row 6, column color: '.*' is a list; a class label is one text"),
        ("train", 0, {"image": "", "text": " "}, "row 1: every input is missing"),
        ("test", 30, {"image": "https://a.b/c.png"}, "row 31, column image: 'https://a.b/c.png' is a web address"),
    ],
)
def test_a_record_that_cannot_be_used_is_named_before_the_first_step(rows, tmp_path, table, row, cells, message):
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n")
    tables = {"train": rows, "valid": rows, "test": rows} | {table: broken(rows, row, **cells)}
    with pytest.raises(RecordError, match=message):
        mm.fit(make_job(), **tables, root=tmp_path, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (line,) = looked(make_job(on_error="skip"), tmp_path, **tables)
    suffix = "" if table == "train" else f" ({table})"
    assert line.startswith(
        f"warning: records{suffix}: 1 record cannot be used and will be left out (data.on_error: skip), first records, "
    )


def test_many_files_that_are_not_there_are_counted(rows, tmp_path):
    train = [{**record, "image": "gone.png" if row % 4 else record["image"]} for row, record in enumerate(rows)]
    with pytest.raises(
        RecordError, match=r"row 2, column image: .*; 29 more of records cannot be used: `multimodal ch"
    ):
        looked(make_job(), tmp_path, train=train, valid=rows)
    (line,) = looked(make_job(on_error="skip"), tmp_path, train=train, valid=rows)
    assert "30 records cannot be used" in line


def test_places_of_rows_that_stay_when_others_are_held_out_are_those_of_the_whole_table(rows, tmp_path):
    for row in (7, 19, 38):
        with pytest.raises(RecordError, match=f"records, row {row + 1}, column image: 'gone.png' does not exist"):
            looked(make_job(), tmp_path, train=broken(rows, row, image="gone.png"))


@pytest.mark.parametrize(
    ("spelled", "message"),
    [
        ("Red", "'Red' (1 record) reads the same as 'red' ("),
        ("r\u0435d", r"'red' ("),
        ("bluee", "a single training record has the label 'bluee', and "),
        ("blue\u200b", r"'blue' ("),
        ("red;blue", "1 label holds ';', such as 'red;blue' (1 record in all)"),
    ],
)
def test_labels_are_warned_of_as_check_does(rows, tmp_path, spelled, message):
    lines = looked(make_job(), tmp_path, train=broken(rows, 8, color=spelled))
    assert any(line.startswith(f"warning: records: color: {message}") for line in lines)


def test_paths_in_another_spelling_than_their_files_are_counted(rows, tmp_path):
    train = [
        {**record, "image": f"{record['image']} " if number < 3 else record["image"]}
        for number, record in enumerate(rows)
    ]
    name = rows[0]["image"]
    assert looked(make_job(), tmp_path, train=train) == [
        f"warning: records: image: 3 of 36 paths are not spelled as their files, first '{name} ' is read as '{name}', "
        "without the spaces around it"
    ]


def test_audio_that_is_to_be_doubted_is_counted_among_the_first_records(tmp_path):
    wave = np.random.default_rng(0).normal(0, 0.1, 8000)
    values = [(wave * 32768, 8000), (np.stack([wave, -wave], 1), 8000), *[(wave, 8000)] * 28]
    train = [{"audio": value, "word": "yes" if row % 2 else "no"} for row, value in enumerate(values)]
    job = mm.Job(inputs={"audio": {"encoder": "compact/audio"}}, tasks={"word": {}}, data={"workers": 0})
    (line,) = looked(job, tmp_path, train=train, valid=train[2:12])
    assert line.startswith("warning: 2 of the first 16 records: records, row 1, column audio has floats up to ")


def test_ten_thousand_files_are_looked_for_within_a_moment(rows, tmp_path, caplog):
    names = [f"many{number}.png" for number in range(10_000)]
    for name in names:
        (tmp_path / name).hardlink_to(tmp_path / rows[0]["image"])
    train = [
        {"image": name, "text": "red", "color": "red" if number % 2 else "blue"} for number, name in enumerate(names)
    ]
    built = TrainingSetup.build(make_job(), read_tables(make_job(), root=tmp_path, train=train), Path())
    began = time.process_time()
    look_first(built)
    assert time.process_time() - began < 2
    assert caplog.messages == []
