import decimal
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from encoders.preprocessing import TensorSpec, UnreadableValueError, stack_arrays
from encoders.preprocessing.image import ImagePreprocessor
from encoders.preprocessing.text import TextPreprocessor
from multimodal.records import (
    InputReader,
    ManifestError,
    RecordError,
    Records,
    class_label,
    is_missing,
    label_set,
    read_records,
    stack_inputs,
)


def text_preprocessor() -> TextPreprocessor:
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "[PAD]": 1, "red": 2, "ripe": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return TextPreprocessor(tokenizer)


class Length:
    """A plug-in's preprocessor: how long a str is, or how large the file that a path names."""

    tensors = (TensorSpec("length", "float32", ("batch", 1)),)

    def __init__(self, modality: str, reads_paths: bool | None = None) -> None:
        self.modality = modality
        if reads_paths is not None:
            self.reads_paths = reads_paths

    def __call__(self, raw):
        size = raw.stat().st_size if isinstance(raw, Path) else len(raw)
        return {"length": np.array([size], np.float32)}

    def blank(self):
        return {"length": np.array([0], np.float32)}

    def stack(self, samples):
        return stack_arrays(samples, self.tensors, {})

    def to_config(self):
        return {"kind": "length"}


def test_records_module_is_torch_free():
    modules = "{'torch', 'transformers', 'pandas', 'pyarrow'}"
    code = f"import sys, multimodal.records.records; print(sorted({modules} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- tables ---


def test_a_manifests_media_start_from_its_folder(tmp_path):
    (tmp_path / "train.csv").write_text("image,label\na.jpg,x\nb.jpg,y\n")
    records = read_records(str(tmp_path / "train.csv"))
    assert (records.columns, len(records), records.root) == (("image", "label"), 2, tmp_path)
    assert records[1] == {"image": "b.jpg", "label": "y"}
    assert records.place(1, "image") == "train.csv, row 2, column image"
    assert records.place(0) == "train.csv, row 1"
    assert not records.allow_outside
    elsewhere = read_records(tmp_path / "train.csv", root="media", allow_outside=True)
    assert (elsewhere.root, elsewhere.allow_outside) == (Path("media"), True)


def test_dicts_are_records_and_may_lack_keys():
    given = [{"image": "a.jpg"}, {"text": "red", "image": None}]
    records = read_records(given)
    assert (records.columns, records.root, records.source) == (("image", "text"), None, "records")
    assert list(records.rows) == given
    assert records.rows[0] is not given[0]
    assert read_records(iter(given)).rows == given
    assert read_records([]).columns == ()
    assert read_records(records) is records


def test_a_data_frame_is_read_with_its_gaps():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"text": ["red", None], "n": [3, None], "when": [pandas.Timestamp("2020-01-01"), pandas.NaT]}
    )
    frame["code"] = pandas.array([7, pandas.NA], dtype="Int64")
    frame["kind"] = pandas.Categorical(["a", None])
    frame.index = [10, 10]
    records = read_records(frame)
    assert (records.columns, len(records)) == (("text", "n", "when", "code", "kind"), 2)
    assert all(is_missing(value) for value in records[1].values())
    assert not any(is_missing(value) for value in records[0].values())
    assert (class_label(records[0]["n"]), class_label(records[0]["code"])) == ("3", "7")
    assert records.place(1) == "DataFrame, row 2"


def test_a_data_frame_with_unusable_columns_is_refused():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ManifestError, match="DataFrame: more than one column is named 'a'"):
        read_records(pandas.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(ManifestError, match="column 1 is named 0, which is not text"):
        read_records(pandas.DataFrame([[1, 2]]))


@pytest.mark.parametrize("source", [{"image": "a.jpg"}, None, 3, b"train.csv"], ids=str)
def test_what_is_no_table_is_refused(source):
    with pytest.raises(TypeError, match="give a manifest's path, a DataFrame or a list of dicts"):
        read_records(source)


def test_what_is_no_record_is_refused():
    with pytest.raises(TypeError, match="records, row 2 is a str; give one dict per record"):
        read_records([{"a": 1}, "b"])


def test_a_missing_column_names_the_nearest_and_lists_all():
    records = read_records([{"image": "a.jpg", "text": "red"}])
    records.require(["text", "image"])
    with pytest.raises(ManifestError, match=r"has no column 'imgae'; did you mean 'image'\? There are image, text"):
        records.require(["text", "imgae"])
    with pytest.raises(ManifestError, match="has no column 'x'; there are none at all"):
        read_records([]).require(["x"])


def test_a_subset_keeps_the_places_of_the_whole_table():
    records = read_records([{"n": number} for number in range(5)])
    part = records.subset(np.array([4, 2])).subset([1])
    assert (list(part.rows), part.place(0, "n")) == ([{"n": 2}], "records, row 3, column n")


def test_record_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(RecordError(16, "image", "'a.jpg' does not exist")))
    assert (error.row, error.input, error.reason) == (16, "image", "'a.jpg' does not exist")
    assert str(error) == "record 16 (counted from 0), image: 'a.jpg' does not exist"
    assert str(RecordError(0, None, "is odd")) == "record 0 (counted from 0): is odd"


def test_records_survive_the_way_between_processes():
    records = Records(("a",), [{"a": 1}], "train.csv", Path("data"))
    assert pickle.loads(pickle.dumps(records)) == records


# --- cells ---


WRAPPED = [
    ({"bytes": b"RIFF", "path": "a.wav"}, b"RIFF"),
    ({"bytes": None, "path": "a.wav"}, "a.wav"),
    ({"bytes": b"RIFF"}, b"RIFF"),
    ({"bytes": None, "path": None}, None),
    ({"array": [0.0, 0.5], "sampling_rate": 8000}, ([0.0, 0.5], 8000)),
    ({"array": [0.0, 0.5], "sampling_rate": 8000, "path": None}, ([0.0, 0.5], 8000)),
    ({"array": None, "sampling_rate": 8000, "path": "a.wav"}, None),
    ({"path": "a.wav"}, {"path": "a.wav"}),  # of something else
    ({"bytes": b"", "size": 3}, {"bytes": b"", "size": 3}),
]


@pytest.mark.parametrize(("cell", "value"), WRAPPED)
def test_media_in_the_dicts_of_hugging_faces_datasets_are_unwrapped(tmp_path, cell, value):
    rows = [{"audio": cell, "label": "x"}]
    assert read_records(rows).rows == [{"audio": value, "label": "x"}]
    assert read_records(pd.DataFrame(rows)).rows == [{"audio": value, "label": "x"}]
    if all(not isinstance(part, bytes) for part in cell.values()):
        (tmp_path / "a.jsonl").write_text(json.dumps(rows[0]))
        assert read_records(tmp_path / "a.jsonl").rows == [{"audio": value, "label": "x"}]


def test_a_path_in_a_dict_leaves_its_folder_no_more_than_another(tmp_path):
    reader = InputReader("image", "image", ImagePreprocessor(4))
    records = read_records([{"image": {"bytes": None, "path": "/etc/hosts"}}], root=tmp_path)
    with pytest.raises(UnreadableValueError, match="'/etc/hosts' is an absolute path"):
        reader.read(records[0], records.root)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " \t\n\u00a0",
        float("nan"),
        np.float32("nan"),
        np.float64("nan"),
        np.datetime64("NaT"),
        decimal.Decimal("NaN"),
    ],
    ids=repr,
)
def test_missing_values(value):
    assert is_missing(value) is True


@pytest.mark.parametrize(
    "value",
    [0, 0.0, False, "0", "nan", "None", "null", b"", [], (), {}, np.zeros(0), np.array([np.nan]), np.int64(0)],
    ids=repr,
)
def test_given_values(value):
    assert is_missing(value) is False


def test_missing_values_of_pandas():
    pandas = pytest.importorskip("pandas")
    assert is_missing(pandas.NA)
    assert is_missing(pandas.NaT)
    assert not is_missing(pandas.Timestamp(0))


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("Apple", "Apple"),
        (" Apple\n", "Apple"),
        ("007", "007"),
        ("3.0", "3.0"),
        (7, "7"),
        (np.int64(7), "7"),
        (3.0, "3"),
        (np.float32(3), "3"),
        (-0.0, "0"),
        (2.5, "2.5"),
        (np.float32(0.1), "0.1"),
        (True, "True"),
        (np.bool_(False), "False"),
    ],
    ids=repr,
)
def test_class_labels_are_text(value, label):
    assert class_label(value) == label
    assert type(class_label(value)) is str


@pytest.mark.parametrize("value", [["a"], ("a",), {"a": 1}, b"a", np.array(["a"])], ids=repr)
def test_a_class_label_is_a_single_value(value):
    with pytest.raises(UnreadableValueError, match=f"is a {type(value).__name__}; a class label is one text or number"):
        class_label(value)


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        ("b;a", ("b", "a")),
        (" a ; b;a; ", ("a", "b")),
        ("a", ("a",)),
        (";", ()),
        ([], ()),
        (None, ()),
        (["b", None, "a", 3.0], ("b", "a", "3")),
        (("a",), ("a",)),
        pytest.param({"b", "a"}, ("a", "b"), id="set"),
        (np.array(["a", "b"]), ("a", "b")),
        (3, ("3",)),
    ],
    ids=repr,
)
def test_label_sets(value, labels):
    assert label_set(value) == labels


def test_label_sets_that_are_refused():
    with pytest.raises(UnreadableValueError, match="the label 'a;b' holds a ';', which separates labels; rename it"):
        label_set(["a;b"])
    with pytest.raises(UnreadableValueError, match="is a dict; a class label is one text or number"):
        label_set({"a": 1})


# --- inputs ---


def test_a_path_and_its_bytes_give_the_same_image(tmp_path):
    Image.new("RGB", (8, 8), (200, 10, 30)).save(tmp_path / "a.png")
    reader = InputReader("front", "photo", ImagePreprocessor(4))
    from_path, present = reader.read({"photo": "a.png"}, tmp_path)
    from_bytes, _ = reader.read({"photo": (tmp_path / "a.png").read_bytes()}, tmp_path)
    assert present
    np.testing.assert_array_equal(from_path["pixels"], from_bytes["pixels"])
    assert from_path["pixels"][:, 0, 0].tolist() == [200, 10, 30]


@pytest.mark.parametrize("row", [{}, {"photo": ""}, {"photo": None}, {"photo": float("nan")}], ids=str)
def test_a_missing_value_is_blank_and_not_augmented(row):
    reader = InputReader("front", "photo", ImagePreprocessor(4))
    arrays, present = reader.read(row, augment=pytest.fail)
    assert not present
    np.testing.assert_array_equal(arrays["pixels"], reader.preprocessor.blank()["pixels"])


def test_text_is_never_a_path(tmp_path):
    reader = InputReader("title", "text", text_preprocessor())
    for text in ("../red", "/red", "red\0ripe"):
        assert reader.read({"text": text}, tmp_path)[1]
    stubborn = InputReader("title", "text", Length("text", reads_paths=True))
    assert stubborn.read({"text": "/etc"})[0]["length"] == 4


def test_a_plugin_says_whether_it_reads_paths(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"12345678")

    def length(modality, reads_paths=None):
        preprocessor = Length(modality, reads_paths)
        return InputReader("x", "x", preprocessor).read({"x": "a.tif"}, tmp_path)[0]["length"]

    assert length("satellite", reads_paths=True) == 8
    assert length("satellite") == length("satellite", reads_paths=False) == len("a.tif")
    assert length("image") == length("audio") == 8


def test_an_unreadable_value_is_quoted_as_it_was_written(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"no image")
    reader = InputReader("front", "photo", ImagePreprocessor(4))
    with pytest.raises(UnreadableValueError, match=r"^'images/a.jpg': is not a readable JPEG"):
        reader.read({"photo": "images/a.jpg"}, tmp_path)
    with pytest.raises(UnreadableValueError, match=r"^'../a.jpg' has '..' in it"):
        reader.read({"photo": "../a.jpg"}, tmp_path)
    with pytest.raises(UnreadableValueError, match="an image cannot be a int"):
        reader.read({"photo": 3}, tmp_path)
    with pytest.raises(UnreadableValueError, match="does not exist"):
        reader.read({"photo": "../a.jpg"}, tmp_path, allow_outside=True)


def test_augmentation_comes_before_the_preprocessor(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"123")
    reader = InputReader("x", "x", Length("image"))
    arrays, present = reader.read({"x": "a.tif"}, tmp_path, augment=lambda path: path.read_bytes() * 2)
    assert (arrays["length"], present) == (6, True)
    text = InputReader("x", "x", Length("text"))
    assert text.read({"x": "abc"}, augment=lambda raw: raw[:1])[0]["length"] == 1


def test_stacking_pads_and_says_what_is_present():
    readers = {
        "title": InputReader("title", "text", text_preprocessor()),
        "size": InputReader("size", "n", Length("n")),
    }
    rows = [{"text": "red ripe", "n": "abc"}, {"text": " "}]
    samples = [{name: reader.read(row) for name, reader in readers.items()} for row in rows]
    stacked = stack_inputs(readers, samples)
    assert set(stacked) == {"title", "size"}
    assert stacked["title"]["input_ids"].tolist() == [[2, 3], [1, 1]]
    assert stacked["title"]["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert stacked["size"]["length"].tolist() == [[3], [0]]
    for arrays in stacked.values():
        assert (arrays["present"].tolist(), arrays["present"].dtype) == ([True, False], np.bool_)
