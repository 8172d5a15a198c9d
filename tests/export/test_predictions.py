"""The predictions file."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.assertions import assert_close
from typer.testing import CliRunner

from export import Bundle, Predictor, RecordError, write_predictions
from multimodal.cli import app
from multimodal.decoding import Prediction, Sigmoid
from multimodal.inference.tables import PredictionColumns
from multimodal.records import read_records


@pytest.fixture(scope="module")
def predictor(bundle: Bundle) -> Predictor:
    return Predictor.load(bundle.folder, device="cpu")


def test_one_line_a_record_with_its_labels_probabilities_and_error(
    predictor: Predictor, media: Path, tmp_path: Path
) -> None:
    (media / "three.csv").write_text("image,text,sound,id\n0.png,red,,7\nno.png,red,,8\n,,,9\n,blue,0.wav,10\n")
    failures: list[str] = []
    result = write_predictions(
        predictor, media / "three.csv", tmp_path / "out.csv", batch_size=3, on_failure=failures.append
    )
    assert result == (2, 4)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["color", "color_probability", "linear", "linear_probability", "price", "error"]
    answers = predictor.predict(media / "three.csv", on_error="return")
    for row, answer in zip(rows, answers, strict=True):
        if isinstance(answer, RecordError):
            assert set(row.values()) == {"", row["error"]}
            continue
        assert row["error"] == ""
        assert row["color"] == answer["color"].label
        assert_close(float(row["color_probability"]), answer["color"].probability, "onnx")
        assert row["linear"] == ";".join(answer["linear"].labels)
        assert_close(float(row["price"]), answer["price"].value, "onnx")
    assert rows[1]["error"].startswith("photo: 'no.png'")
    assert rows[2]["error"].startswith("every input is missing")
    assert failures[0].startswith("three.csv, row 2, column image: 'no.png'")
    assert failures[1].startswith("three.csv, row 3: every input is missing")


def test_embeddings_are_one_array_with_gaps_where_nothing_was_answered(
    predictor: Predictor, tmp_path: Path, table: list[dict[str, Any]], media: Path
) -> None:
    rows = [*table, {"image": "no.png"}]
    records = read_records(rows, root=media)
    write_predictions(predictor, records, tmp_path / "p.csv", embeddings=tmp_path / "e.npy", batch_size=4)
    embeddings = np.load(tmp_path / "e.npy", allow_pickle=False)
    assert embeddings.shape == (10, 8)
    assert embeddings.dtype == np.float32
    for vector, answer in zip(embeddings, predictor.predict(records, on_error="return"), strict=True):
        if isinstance(answer, RecordError):
            assert np.isnan(vector).all()
        else:
            assert_close(vector, answer["embedding"].embedding, "onnx")


def test_an_empty_table_gives_a_header_and_no_vectors(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,text\n")
    out, embeddings = tmp_path / "new" / "o.csv", tmp_path / "vectors" / "e.npy"  # their folders are made
    assert write_predictions(predictor, tmp_path / "t.csv", out, embeddings=embeddings) == (0, 0)
    assert out.read_text().splitlines() == ["color,color_probability,linear,linear_probability,price,error"]
    assert np.load(embeddings).shape == (0, 8)


def test_a_failure_leaves_no_file_and_keeps_the_old_one(predictor: Predictor, media: Path, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("old")

    def fail(_: str) -> None:
        raise RuntimeError("on purpose")

    records = read_records([{"image": "no.png"}], root=media)
    with pytest.raises(RuntimeError, match="on purpose"):
        write_predictions(predictor, records, tmp_path / "out.csv", embeddings=tmp_path / "e.npy", on_failure=fail)
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    assert (tmp_path / "out.csv").read_text() == "old"


def test_embeddings_of_a_bundle_without_them_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    class Without:
        bundle: Any

    predictor = Without()
    predictor.bundle = Bundle(**{**vars(bundle), "embedding": False})
    with pytest.raises(ValueError, match=r"gives no vectors: .* export its run again .*embedding=True"):
        write_predictions(predictor, [], tmp_path / "p.csv", embeddings=tmp_path / "e.npy")  # type: ignore[arg-type]


def test_a_multilabel_answer_without_labels_has_empty_cells() -> None:
    tasks = {"tags": Sigmoid(("new", "sale"), (0.5, 0.5))}
    assert PredictionColumns(tasks).names == ["tags", "tags_probability", "error"]
    assert PredictionColumns(tasks).cells({"tags": Prediction()}) == ["", "", ""]
    both = Prediction(labels=("new", "sale"), probability=0.7)
    assert PredictionColumns(tasks).cells({"tags": both}) == ["new;sale", "0.7", ""]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_columns_of_the_table_come_before_the_answers(
    predictor: Predictor, media: Path, tmp_path: Path, suffix: str
) -> None:
    (media / "ids.csv").write_text("image,text,id,shelf\n0.png,red,007,\nno.png,red,8,\n1.png,,9,top\n")
    out = tmp_path / f"out.{suffix}"
    assert write_predictions(predictor, media / "ids.csv", out, keep=["shelf", "id"], batch_size=2) == (1, 3)
    found = read_records(out)
    assert found.columns[:3] == ("shelf", "id", "color")
    assert [str(row["id"]) for row in found.rows] == ["007", "8", "9"]
    assert [row["shelf"] or None for row in found.rows] == [None, None, "top"]
    assert [bool(row["error"]) for row in found.rows] == [False, True, False]


def test_the_command_takes_a_prefix_of_a_table_alone(bundle, media, tmp_path) -> None:
    (media / "priced.csv").write_text("text,price\nred,2.50\n")
    command = ["predict", str(bundle.folder), "--device", "cpu", "--prefix", "our_"]
    table = ["--data", str(media / "priced.csv"), "--out", str(tmp_path / "out.csv"), "--keep", "price"]
    assert CliRunner().invoke(app, [*command, *table]).exit_code == 0
    assert {"price", "our_price"} < set(read_records(tmp_path / "out.csv").columns)
    done = CliRunner().invoke(app, [*command, "--text", "red"])
    assert (done.exit_code, "--prefix of one record would be ignored" in done.stderr) == (2, True)


def test_the_command_prints_the_first_failures_of_a_kind_and_counts_the_others(bundle, media, tmp_path) -> None:
    (media / "outside.csv").write_text("image,text,sound\n" + "../0.png,red,\n" * 20 + ",,\n")
    command = ["predict", str(bundle.folder), "--data", str(media / "outside.csv"), "--out", str(tmp_path / "out.csv")]
    done = CliRunner().invoke(app, [*command, "--device", "cpu"])
    first, *others, empty, more = [line for line in done.stderr.splitlines() if "outside.csv, " in line]
    assert first.startswith("outside.csv, row 1, column image: '../0.png' ")
    assert [line.partition(": ")[0].rpartition(" row ")[2] for line in others] == ["2, column image", "3, column image"]
    assert "every input is missing" in empty
    where = "and 17 more of the same kind as outside.csv, row 1, column image"
    assert more == f"{where}; the column error of {tmp_path / 'out.csv'} has them all"
    assert sum(bool(row["error"]) for row in read_records(tmp_path / "out.csv").rows) == 21


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (["idd"], r"'idd' cannot be kept: records has the columns text, id"),
        (["id", "id"], r"'id' cannot be kept twice; give it once"),
        (["color"], r"'color' cannot be kept: records has the columns"),
    ],
)
def test_a_column_that_cannot_be_kept_is_refused(
    predictor: Predictor, tmp_path: Path, keep: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_predictions(predictor, read_records([{"text": "red", "id": 1}]), tmp_path / "out.csv", keep=keep)


@pytest.mark.parametrize(
    ("keep", "options", "renamed"),
    [
        (["id"], {}, {}),
        (["color"], {}, {"color": "predicted_color", "color_probability": "predicted_color_probability"}),
        (["color_probability"], {}, {"color": "predicted_color", "color_probability": "predicted_color_probability"}),
        (["price", "id"], {}, {"price": "predicted_price"}),
        (["error"], {}, {"error": "predicted_error"}),
        (["price"], {"prefix": "our "}, {"price": "our price"}),
        (["predicted_price"], {}, {}),
    ],
)
def test_a_prediction_called_like_a_kept_column_gets_a_prefix(
    predictor: Predictor, tmp_path: Path, keep: list[str], options: dict[str, str], renamed: dict[str, str]
) -> None:
    row = {"text": "red", "id": "7", "color": "dark red", "price": "2.50", "error": "none", "color_probability": "1"}
    table = read_records([row | {"predicted_price": "3"}])
    for out, kept in ((tmp_path / "plain.csv", []), (tmp_path / "out.csv", keep)):
        write_predictions(predictor, table, out, keep=kept, **options)
    plain, found = read_records(tmp_path / "plain.csv"), read_records(tmp_path / "out.csv")
    assert found.columns == (*keep, *(renamed.get(name, name) for name in plain.columns))
    assert {name: found[0][name] for name in keep} == {name: table[0][name] for name in keep}
    assert [found[0][renamed.get(name, name)] for name in plain.columns] == [plain[0][name] for name in plain.columns]


@pytest.mark.parametrize(
    ("keep", "prefix"),
    [
        (["price", "predicted_price"], "predicted_"),
        (["price"], ""),
        (["error", "my_error"], "my_"),
        (["color", "color_probability"], ""),
        (["color", "x_color_probability"], "x_"),
    ],
)
def test_a_prefix_that_gives_a_taken_name_is_refused(
    predictor: Predictor, tmp_path: Path, keep: list[str], prefix: str
) -> None:
    table = read_records([{"text": "red", **dict.fromkeys(keep, "x")}])
    with pytest.raises(ValueError, match=r"there are two columns '.*'; give another prefix \(--prefix\)"):
        write_predictions(predictor, table, tmp_path / "out.csv", keep=keep, prefix=prefix)
    assert list(tmp_path.iterdir()) == []
