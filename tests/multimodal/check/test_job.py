import csv
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from multimodal.check.job import Problem, check_job
from multimodal.check.problems import first_of_each
from multimodal.config import Job, parse_job

IMAGE_JOB = {
    "data": {"train": "train.csv", "valid": "val.csv", "test": "test.csv"},
    "inputs": {"image": {"encoder": "compact/image"}},
    "tasks": {"product": {}},
}


def draw_image(path: Path, grey: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(path)
    return path.name


def table(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def shelf(folder: Path, **tables: list[dict[str, str]]) -> None:
    """A clean job of two products; ``tables`` take the place of its own."""
    clean = {}
    for index, split in enumerate(("train", "val", "test")):
        names = [draw_image(folder / f"{split}{number}.png", 60 * index + 10 * number) for number in range(4)]
        clean[split] = [{"image": name, "product": "apple" if name[-5] < "2" else "pear"} for name in names]
    for split, rows in {**clean, **tables}.items():
        table(folder / f"{split}.csv", rows)


def make_job(**changes) -> Job:
    return parse_job({**IMAGE_JOB, **changes})


def test_a_clean_job_has_no_problems(tmp_path):
    shelf(tmp_path)
    assert check_job(make_job(), tmp_path) == []


def test_a_path_in_another_spelling_than_its_file_is_a_warning(tmp_path):
    shelf(tmp_path, val=[{"image": " val0%2Epng", "product": "apple"}, {"image": "val3.png", "product": "pear"}])
    assert check_job(make_job(), tmp_path) == [
        Problem(
            *("warning", "val.csv", 1, "image"),
            "' val0%2Epng' is read as 'val0.png'; write it so, since other programs may not find it",
        )
    ]


def test_check_is_torch_free(tmp_path):
    shelf(tmp_path)
    (tmp_path / "check.py").write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from multimodal.check.job import check_job\n"
        "from multimodal.config import parse_job\n"
        f"assert check_job(parse_job({IMAGE_JOB!r}), Path({str(tmp_path)!r})) == []\n"
        "print(sorted({'torch', 'transformers'} & {*sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, tmp_path / "check.py"], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


# --- media ---


def test_every_unreadable_file_of_every_split_is_listed(tmp_path):
    rows = [{"image": name, "product": "apple"} for name in ("gone.png", "broken.png", "../out.png", "test0.png")]
    shelf(tmp_path, test=[*rows, rows[1]])
    (tmp_path / "broken.png").write_bytes((tmp_path / "test1.png").read_bytes()[:40])
    (tmp_path / "train3.png").write_bytes(b"")
    problems = check_job(make_job(), tmp_path)
    assert [(p.severity, p.file, p.row, p.column) for p in problems] == [
        ("error", "train.csv", 4, "image"),
        ("error", "test.csv", 1, "image"),
        ("error", "test.csv", 2, "image"),
        ("error", "test.csv", 3, "image"),
        ("error", "test.csv", 5, "image"),
    ]
    messages = [problem.message for problem in problems]
    assert messages[0].startswith("'train3.png': is empty (0 bytes)")
    assert messages[1].startswith("'gone.png' does not exist")
    assert messages[2].startswith("'broken.png': is ")
    assert messages[3].startswith("'../out.png' has '..' in it")
    assert messages[4] == messages[2]
    assert not any(str(tmp_path) in message for message in messages)


def test_files_outside_are_read_where_the_job_allows_it(tmp_path):
    (tmp_path / "tables").mkdir()
    draw_image(tmp_path / "out.png", 250)
    rows = [{"image": "../out.png", "product": "apple"}]
    shelf(tmp_path / "tables", test=rows)
    assert check_job(make_job(data={**IMAGE_JOB["data"], "allow_outside": True}), tmp_path / "tables") == []


def test_clips_are_read_too(tmp_path):
    rows = [{"audio": f"{number}.wav", "quantity": str(number // 2)} for number in range(4)]
    for number, row in enumerate(rows):
        soundfile.write(tmp_path / row["audio"], np.full(8000, 0.1 * number, np.float32), 8000)
    (tmp_path / "3.wav").write_bytes(b"RIFF and no more")
    table(tmp_path / "train.csv", rows)
    job = make_job(
        data={"train": "train.csv"},
        inputs={"voice": {"encoder": "compact/audio", "column": "audio"}},
        tasks={"quantity": {"type": "regression"}},
    )
    (problem,) = check_job(job, tmp_path)
    assert (problem.severity, problem.row, problem.column) == ("error", 4, "audio")
    assert problem.message.startswith("'3.wav': is not a readable wav")


def test_parquet_may_hold_the_images_themselves(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    shelf(tmp_path)
    content = [(tmp_path / f"train{number}.png").read_bytes() for number in range(3)]
    images = pyarrow.array([*content, b"no image"])
    columns = {"image": images, "product": ["apple", "apple", "pear", "pear"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "train.parquet")
    table(tmp_path / "val.csv", [{"image": "train1.png", "product": "apple"}])
    problems = check_job(make_job(data={"train": "train.parquet", "valid": "val.csv"}), tmp_path)
    assert [(p.severity, p.file, p.row) for p in problems] == [("error", "train.parquet", 4), ("warning", "val.csv", 1)]
    assert "has the same content as the cell in train.parquet, row 2, column image" in problems[1].message


def test_media_in_two_splits_are_found_by_content(tmp_path):
    shelf(tmp_path)
    shutil.copy(tmp_path / "train2.png", tmp_path / "test2.png")  # another name, the same content
    assert check_job(make_job(), tmp_path) == [
        Problem(
            "warning",
            "test.csv",
            3,
            "image",
            "'test2.png' has the same content as 'train2.png' in train.csv, row 3, column image; keep it in one split",
        )
    ]


def test_equal_names_in_two_folders_and_repeats_in_one_split_are_no_duplicates(tmp_path):
    shelf(tmp_path)
    for number, folder in enumerate(("train", "val")):
        (tmp_path / folder).mkdir()
        rows = [
            {"image": draw_image(tmp_path / folder / f"{n}.png", 100 * number + n), "product": str(n)} for n in (0, 1)
        ]
        table(tmp_path / folder / "table.csv", [*rows, *rows])
    assert check_job(make_job(data={"train": "train/table.csv", "valid": "val/table.csv"}), tmp_path) == []


def test_equal_texts_are_no_duplicates(tmp_path):
    rows = [{"text": text, "product": product} for text, product in (("red", "a"), ("green", "b")) for _ in range(2)]
    for split in ("train", "val", "test"):
        table(tmp_path / f"{split}.csv", rows)
    assert check_job(make_job(inputs={"text": {"encoder": "compact/text"}}), tmp_path) == []


def test_the_same_media_with_contradicting_labels(tmp_path):
    shelf(tmp_path)
    shutil.copy(tmp_path / "train1.png", tmp_path / "train2.png")
    (problem,) = check_job(make_job(), tmp_path)
    assert (problem.severity, problem.file, problem.row, problem.column) == ("warning", "train.csv", 3, "product")
    assert problem.message == "'pear', but row 2 has 'apple' and the same media; correct one of them"


def test_labels_of_the_same_media_do_not_contradict_where_a_text_may_tell_them_apart(tmp_path):
    rows = [{"image": "a.png", "text": text, "product": text[0]} for text in ("one", "two", "orange", "tea")]
    draw_image(tmp_path / "a.png", 9)
    table(tmp_path / "train.csv", rows)
    inputs = {"image": {"encoder": "compact/image"}, "text": {"encoder": "compact/text"}}
    assert check_job(make_job(data={"train": "train.csv"}, inputs=inputs), tmp_path) == []


# --- tables ---


def test_tables_that_cannot_be_read(tmp_path):
    shelf(tmp_path)
    (tmp_path / "train.csv").write_text("image,product\ntrain0.png\n")
    (tmp_path / "val.csv").unlink()
    (tmp_path / "test.csv").write_text("image,product\n")
    problems = check_job(make_job(), tmp_path)
    assert [(p.severity, p.file, p.row) for p in problems] == [
        ("error", "train.csv", 1),
        ("error", "val.csv", None),
        ("error", "test.csv", None),
    ]
    assert problems[0].message.startswith("has 1 cells where the header has 2")
    assert "cannot be read (No such file or directory)" in problems[1].message
    assert problems[2].message == "the number of records is 0; test needs at least 1"


def test_missing_columns_are_listed_with_a_suggestion(tmp_path):
    shelf(tmp_path, val=[{"Image": "val0.png", "product": "apple"}], test=[{"image": "test0.png", "label": "apple"}])
    problems = [problem for problem in check_job(make_job(), tmp_path) if problem.row is None]
    assert [(p.severity, p.file, p.column, p.message) for p in problems] == [
        ("error", "val.csv", "image", "has no column 'image'; did you mean 'Image'? There are Image, product"),
        ("error", "test.csv", "product", "has no column 'product'; there are image, label"),
    ]


def test_records_without_any_input(tmp_path):
    shelf(tmp_path, test=[{"image": name, "product": "apple"} for name in ("test0.png", " ")])
    assert check_job(make_job(), tmp_path) == [
        Problem("error", "test.csv", 2, None, "every input is missing (image); fill in at least one")
    ]


def test_one_missing_input_is_no_problem_but_an_empty_column_is_a_warning(tmp_path):
    inputs = {"image": {"encoder": "compact/image"}, "text": {"encoder": "compact/text"}}
    tables = {}
    for split in ("train", "val", "test"):
        rows = [{"image": f"{split}{n}.png", "text": "red" if n else "", "product": "ab"[n % 2]} for n in range(4)]
        tables[split] = rows
    tables["test"] = [{**row, "text": ""} for row in tables["test"]]
    shelf(tmp_path, **tables)
    assert check_job(make_job(inputs=inputs), tmp_path) == [
        Problem("warning", "test.csv", None, "text", "is empty in every record: the input text is always missing")
    ]


def test_an_input_column_that_equals_a_label_column(tmp_path):
    rows = [
        {"text": text, "product": product, "stock": "1"}
        for text, product in (("Red ", "red"), ("", "x"), ("blue", "blue"))
    ]
    table(tmp_path / "train.csv", [*rows, *rows])
    inputs = {"text": {"encoder": "compact/text"}, "other": {"encoder": "compact/text", "column": "stock"}}
    problems = check_job(make_job(data={"train": "train.csv"}, inputs=inputs), tmp_path)
    assert [(p.severity, p.column) for p in problems] == [("error", "text")]
    assert problems[0].message == (
        "equals the label column 'product' in every record that has both; the input text would give the label of "
        "product away"
    )


def test_one_column_for_an_input_and_a_task(tmp_path):
    table(tmp_path / "train.csv", [{"product": name} for name in ("a", "a", "b", "b")])
    job = make_job(data={"train": "train.csv"}, inputs={"text": {"encoder": "compact/text", "column": "product"}})
    message = "is the input text and the label of product; take another column for one of them"
    assert check_job(job, tmp_path) == [Problem("error", "train.csv", None, "product", message)]


def test_a_text_that_is_a_number_is_an_error(tmp_path):
    lines = ['{"text": "red", "product": "a"}', '{"text": 5, "product": "b"}', '{"text": null, "product": "a"}']
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    job = make_job(data={"train": "train.jsonl"}, inputs={"text": {"encoder": "compact/text"}})
    problems = [problem for problem in check_job(job, tmp_path) if problem.column == "text"]
    assert problems == [Problem("error", "train.jsonl", 2, "text", "5 is a int; write a text, in quotes")]


# --- labels ---


def test_labels_that_train_lacks_are_listed_with_their_counts(tmp_path):
    names = ["aple", "kiwi", "kiwi", ""]
    shelf(tmp_path, test=[{"image": f"test{n}.png", "product": name} for n, name in enumerate(names)])
    assert check_job(make_job(), tmp_path) == [
        Problem(
            "warning",
            "test.csv",
            None,
            "product",
            "1 record has the label 'aple', which no record of train.csv has; it is counted as wrong, or did you mean "
            "'apple'?",
        ),
        Problem(
            "warning",
            "test.csv",
            None,
            "product",
            "2 records have the label 'kiwi', which no record of train.csv has; it is counted as wrong",
        ),
    ]


def test_labels_with_a_single_training_record(tmp_path):
    names = ["apple", "apple", "kiwi", "pear"]
    shelf(tmp_path, train=[{"image": f"train{n}.png", "product": name} for n, name in enumerate(names)])
    problems = check_job(make_job(), tmp_path)
    assert [(p.severity, p.file, p.column) for p in problems] == [("warning", "train.csv", "product")] * 2
    assert [p.message.split(";")[0] for p in problems] == [
        "a single training record has the label 'kiwi'",
        "a single training record has the label 'pear'",
    ]


@pytest.mark.parametrize(
    ("kind", "cells", "message"),
    [
        ("classification", ["a", "a", ""], "has 1 distinct labels ('a'); classification needs at least 2"),
        ("classification", ["", "", ""], "has 0 distinct labels (none); classification needs at least 2"),
        ("multilabel", [";", ";", ""], "has 0 distinct labels (none); multilabel needs at least 1"),
        ("regression", ["2", "2.0", ""], "has 1 distinct numbers (2.0); regression needs at least two"),
    ],
)
def test_a_column_that_nothing_can_be_learned_of_is_an_error(tmp_path, kind, cells, message):
    shelf(tmp_path, train=[{"image": f"train{n}.png", "product": cell} for n, cell in enumerate(cells)])
    problems = check_job(make_job(data={"train": "train.csv"}, tasks={"product": {"type": kind}}), tmp_path)
    assert [(p.severity, p.column) for p in problems] == [("error", "product")]
    assert problems[0].message.startswith(message)


def test_regression_targets_that_are_no_numbers(tmp_path):
    cells = ["1.5", "cheap", "inf", "2"]
    shelf(tmp_path, train=[{"image": f"train{n}.png", "product": cell} for n, cell in enumerate(cells)])
    problems = check_job(make_job(data={"train": "train.csv"}, tasks={"product": {"type": "regression"}}), tmp_path)
    assert [(p.severity, p.row, p.column) for p in problems] == [("error", 2, "product"), ("error", 3, "product")]
    assert "'cheap' is not a finite number" in problems[0].message


def test_labels_of_a_set_are_counted_one_by_one(tmp_path):
    cells = {"train": ["new;sale", "sale;new", ";", ""], "test": ["sale;old", "new", "", ""]}
    tables = {
        split: [{"image": f"{split}{n}.png", "product": cell} for n, cell in enumerate(column)]
        for split, column in cells.items()
    }
    shelf(tmp_path, **tables)
    job = make_job(data={"train": "train.csv", "test": "test.csv"}, tasks={"product": {"type": "multilabel"}})
    (problem,) = check_job(job, tmp_path)
    assert problem.message.startswith("1 record has the label 'old', which no record of train.csv has")


def test_a_label_that_is_a_list_is_an_error_for_a_class(tmp_path):
    shelf(tmp_path)
    lines = [
        f'{{"image": "train{n}.png", "product": {cell}}}'
        for n, cell in enumerate(['"a"', "7", '"a"', '["a", "b"]', "7"])
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(lines[:4]))
    errors = [p for p in check_job(make_job(data={"train": "train.jsonl"}), tmp_path) if p.severity == "error"]
    assert [(p.row, p.column) for p in errors] == [(4, "product")]
    assert "is a list; a class label is one text or number" in errors[0].message


def test_an_evaluation_column_without_labels_is_a_warning(tmp_path):
    shelf(tmp_path, test=[{"image": "test0.png", "product": ""}])
    assert check_job(make_job(), tmp_path) == [
        Problem("warning", "test.csv", None, "product", "is empty in every record; product is not evaluated here")
    ]


# --- config ---


def test_problems_of_the_config_itself(tmp_path):
    inputs = {
        "front": {"encoder": "compact/image", "modality": "audio"},
        "back": {"encoder": "compact/imagge"},
        "scan": {"encoder": "compact/image", "modality": "image"},
        "copy": {"share": "scan"},
    }
    problems = check_job(make_job(data={}, inputs=inputs), tmp_path)
    assert {p.file for p in problems} == {"config"}
    messages = {p.message for p in problems if p.severity == "error"}
    assert (
        "inputs.front: modality is 'audio', but the encoder compact/image reads 'image'; leave modality out" in messages
    )
    assert any("inputs.back: there is no encoder 'compact/imagge'; did you mean compact/image" in m for m in messages)
    assert "data.train names no table; name one to train on" in messages
    assert len(messages) == 3


def test_values_of_a_plugin_are_said_not_to_be_checked(tmp_path, monkeypatch):
    from encoders import registry

    monkeypatch.setattr(registry.ENCODERS, "registered", {})
    registry.register_encoder("scene/v1", modality="satellite")(object)
    shelf(tmp_path)
    problems = check_job(make_job(inputs={"image": {"encoder": "scene/v1"}}), tmp_path)
    assert problems == [
        Problem(
            "warning", "config", None, "image", "inputs.image: values of the modality 'satellite' are not looked at"
        )
    ]


@pytest.mark.data
@pytest.mark.parametrize("manifest", ["", "_hard", "_missing"])
def test_the_grocery_data_are_clean_and_checked_within_a_minute(manifest):
    folder = Path(os.environ.get("MULTIMODAL_DATA", Path(__file__).parents[4] / "shared" / "data")) / "grocery"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; name the folder of the data in MULTIMODAL_DATA")
    job = make_job(
        data={"train": f"train{manifest}.csv", "valid": f"val{manifest}.csv", "test": f"test{manifest}.csv"},
        inputs={kind: {"encoder": f"compact/{kind}"} for kind in ("image", "text", "audio")},
        tasks={"product": {}, "category": {}, "quantity": {}},
    )
    began = time.monotonic()
    assert check_job(job, folder) == []
    assert time.monotonic() - began < 60


# --- other domains ---


def test_tables_of_other_domains_are_checked_too(tmp_path):
    shelf(tmp_path)
    (tmp_path / "other").mkdir()
    there = [{"image": draw_image(tmp_path / "other" / f"{n}.png", 200 + n), "product": "fig"} for n in range(3)]
    table(tmp_path / "other" / "source.csv", [*there[:2], {"image": "gone.png", "product": "apple"}])
    data = {**IMAGE_JOB["data"], "source": "other/source.csv"}
    rows = [{"image": draw_image(tmp_path / "test9.png", 99), "product": "fig"}]
    table(tmp_path / "test.csv", rows)
    (problem,) = check_job(make_job(data=data, transfer={"source": {}}), tmp_path)  # fig is a label of the source
    assert (problem.severity, problem.file, problem.row) == ("error", "other/source.csv", 3)
    table(tmp_path / "test.csv", [{**rows[0], "product": "kiwi"}])
    unseen = check_job(make_job(data=data, transfer={"source": {}}), tmp_path)[-1]
    assert "'kiwi', which no record of train.csv or other/source.csv has" in unseen.message


def test_labels_of_target_inputs_are_not_looked_at_and_they_may_be_test_records(tmp_path):
    shelf(tmp_path)
    data = {"source": "train.csv", "source_valid": "val.csv", "unlabelled": "test.csv", "test": "test.csv"}
    adapted = make_job(data=data, transfer={"adapt": {"method": "dann"}})
    assert check_job(adapted, tmp_path) == []
    table(tmp_path / "inputs.csv", [{"image": "test0.png", "product": ""}, {"image": "test1.png", "product": "x;y"}])
    data["unlabelled"] = "inputs.csv"
    assert check_job(make_job(data=data, transfer={"adapt": {"method": "dann"}}), tmp_path) == []


def test_a_table_that_no_method_reads_is_an_error(tmp_path):
    shelf(tmp_path)
    (problem,) = check_job(make_job(data={**IMAGE_JOB["data"], "unlabelled": "test.csv"}), tmp_path)
    assert (problem.severity, problem.file) == ("error", "config")
    assert problem.message.startswith("data.unlabelled is read by transfer.adapt")


def test_many_problems_of_one_column_do_not_hide_those_of_another():
    unreadable = [Problem("error", "train.csv", row, "image", "does not exist") for row in range(1, 241)]
    other = [Problem("error", "train.csv", 7, "audio", "is empty"), Problem("warning", "val.csv", 1, "image", "same")]
    shown = list(first_of_each([*unreadable, *other], 3))
    rest = Problem("error", "train.csv", None, "image", "and 237 more of this column; --all shows them")
    assert shown == [*unreadable[:3], rest, *other]


def test_one_problem_more_than_are_shown_is_shown_rather_than_counted():
    problems = [Problem("error", "config", None, None, f"{number}") for number in range(4)]
    assert list(first_of_each(problems, 3)) == problems
    *_, rest = first_of_each([*problems, problems[0]], 3)
    assert rest.message == "and 2 more of this table; --all shows them"


def test_audio_beyond_full_scale_or_of_opposite_channels_is_a_warning(tmp_path):
    wave = np.random.default_rng(0).normal(0, 0.1, (4, 8000)).astype(np.float32)
    samples = [wave[0], wave[1] * 32768, np.stack([wave[2], -wave[2]], 1), np.stack([wave[3], wave[0]], 1)]
    for number, channels in enumerate(samples):
        soundfile.write(tmp_path / f"{number}.wav", channels, 8000, subtype="FLOAT")
    rows = [{"audio": f"{number}.wav", "word": "yes" if number % 2 else "no"} for number in range(4)]
    table(tmp_path / "train.csv", rows)
    job = {"data": {"train": "train.csv"}, "inputs": {"audio": {"encoder": "compact/audio"}}, "tasks": {"word": {}}}
    found = [problem for problem in check_job(parse_job(job), tmp_path) if problem.column == "audio"]
    assert [(problem.severity, problem.row) for problem in found] == [("warning", 2), ("warning", 3)]
    assert found[0].message.startswith("'1.wav' has floats up to ")
    assert found[1].message.startswith("'2.wav' has channels that cancel each other")
