"""Answers: that they are the model's, in order, and that errors say what is wrong."""

import io
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from support.assertions import assert_close
from support.bundle_faults import rewrite
from support.bundles import StubRun
from support.tiny_models import COLORS

from encoders.preprocessing import TensorSpec
from export import Bundle, BundleError, Predictor, RecordError
from export.bundle import BundleInput
from export.loading import check_signature
from multimodal.records import ManifestError, Records, read_records, stack_inputs


@pytest.fixture(scope="module")
def predictor(bundle: Bundle) -> Predictor:
    return Predictor.load(bundle.folder, device="cpu")


@pytest.fixture
def records(table: list[dict[str, Any]], media: Path) -> Records:
    return read_records(table, root=media)


@pytest.fixture
def dicts(table: list[dict[str, Any]], media: Path) -> list[dict[str, Any]]:
    """The same with input names for keys and whole paths."""

    def path(name: str | None) -> str | None:
        return None if name is None else str(media / name)

    return [{"photo": path(row["image"]), "text": row["text"], "sound": path(row["sound"])} for row in table]


def torch_outputs(run: StubRun, records: Records) -> dict[str, np.ndarray]:
    samples = [{name: r.read(row, records.root) for name, r in run.readers.items()} for row in records.rows]
    stacked = stack_inputs(run.readers, samples)
    tensors = {name: {key: torch.from_numpy(a) for key, a in arrays.items()} for name, arrays in stacked.items()}
    with torch.inference_mode():
        result = run.model(tensors)
    return {name: values.numpy() for name, values in result.outputs.items()}


def test_answers_are_those_of_the_model_in_torch(predictor: Predictor, run: StubRun, records: Records) -> None:
    expected = torch_outputs(run, records)
    answers = predictor.predict(records, batch_size=4)
    assert len(answers) == len(records) == 9
    for row, answer in enumerate(answers):
        probabilities = torch.softmax(torch.tensor(expected["color"][row]), 0).numpy()
        assert_close(list(answer["color"].probabilities.values()), probabilities, "onnx")
        assert answer["color"].label == list(COLORS)[probabilities.argmax()]
        each = torch.sigmoid(torch.tensor(expected["linear"][row])).numpy()
        names = ("new", "sale")
        assert answer["linear"].labels == tuple(n for n, p in zip(names, each, strict=True) if p >= 0.5)
        assert_close(answer["price"].value, 1.5 * expected["price"][row, 0] + 3.5, "onnx")
        assert_close(np.linalg.norm(answer["embedding"].embedding), 1.0, "onnx")


def test_the_batch_size_changes_no_answer(predictor: Predictor, records: Records) -> None:
    together = predictor.predict(records, batch_size=32)
    for one, many in zip(predictor.predict(records, batch_size=1), together, strict=True):
        assert one["color"].label == many["color"].label
        assert_close(one["price"].value, many["price"].value, "onnx")


def test_what_a_record_lacks_is_named(predictor: Predictor, table: list[dict[str, Any]], records: Records) -> None:
    columns = {"photo": "image", "text": "text", "sound": "sound"}
    for row, answer in zip(table, predictor.predict(records), strict=True):
        missing = tuple(name for name, column in columns.items() if row[column] is None)
        assert {prediction.missing for prediction in answer.values()} == {missing}


def test_dicts_a_dataframe_a_path_and_a_generator_give_the_same(
    predictor: Predictor,
    records: Records,
    dicts: list[dict[str, Any]],
    table: list[dict[str, Any]],
    media: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = pd.DataFrame(table)
    frame.to_csv(media / "table.csv", index=False)
    monkeypatch.chdir(media)  # a DataFrame's paths start from the working directory
    expected = [answer["price"].value for answer in predictor.predict(records)]
    for given in (dicts, frame, media / "table.csv", str(media / "table.csv"), (row for row in dicts)):
        assert [answer["price"].value for answer in predictor.predict(given)] == expected


def test_raw_values_need_no_files(predictor: Predictor) -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    sound = (np.sin(np.arange(4000) / 10).astype(np.float32), 8000)
    (answer,) = predictor.predict([{"photo": pixels, "text": "red round thing", "sound": sound}])
    assert answer["color"].missing == ()


IMAGES = [
    lambda levels: levels,
    lambda levels: levels / 255,
    lambda levels: levels.transpose(2, 0, 1),
    lambda levels: torch.from_numpy(levels.transpose(2, 0, 1) / np.float32(255)),
    lambda levels: {"bytes": png(levels), "path": None},
]
SOUNDS = [
    lambda wave: (wave, 8000),
    lambda wave: (torch.from_numpy(wave), 8000),
    lambda wave: (torch.from_numpy(wave)[None], 8000),
    lambda wave: {"array": wave, "sampling_rate": 8000, "path": None},
    lambda wave: {"array": wave[None], "sampling_rate": 8000},
]


def png(levels: np.ndarray) -> bytes:
    Image.fromarray(levels).save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(("image", "sound"), list(zip(IMAGES, SOUNDS, strict=True)), ids=range(5))
def test_values_in_memory_are_read_in_every_form(predictor: Predictor, image: Any, sound: Any) -> None:
    rng = np.random.default_rng(0)
    levels, wave = rng.integers(0, 256, (40, 30, 3), np.uint8), rng.normal(0, 0.1, 4000).astype(np.float32)
    (expected,) = predictor.predict([{"photo": png(levels), "sound": (wave, 8000)}])
    record = {"photo": image(levels), "sound": sound(wave)}
    for (answer,) in (
        predictor.predict([record]),
        predictor.predict(pd.DataFrame([record | {"image": record["photo"]}])),
    ):
        assert (answer["color"].missing, answer["price"].value) == (("text",), expected["price"].value)


def test_batches_are_read_one_at_a_time(predictor: Predictor) -> None:
    taken: list[int] = []

    def rows() -> Any:
        for index in range(10):
            taken.append(index)
            yield {"text": "red"}

    batches = predictor.predict_batches(rows(), batch_size=3)
    assert len(next(batches)) == 3
    assert taken == [0, 1, 2]
    assert [len(batch) for batch in batches] == [3, 3, 1]


def test_no_records_give_no_answers(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


def test_several_threads_may_ask_at_once(predictor: Predictor, records: Records) -> None:
    expected = [answer["price"].value for answer in predictor.predict(records)]
    with ThreadPoolExecutor(4) as pool:
        for answers in pool.map(lambda _: predictor.predict(records), range(8)):
            assert_close([answer["price"].value for answer in answers], expected, "onnx")


BAD: list[tuple[Any, str | None, str]] = [
    ({"photo": "no/such.png", "text": "red"}, "photo", "'no/such.png'"),
    ({"photo": b"not a picture"}, "photo", "JPEG, PNG or WebP"),
    ({"text": 3}, "text", "a text cannot be a int"),
    ({}, None, "every input is missing; give at least photo or text or sound"),
    ({"photo": None, "text": "  ", "sound": float("nan")}, None, "every input is missing"),
    ({"txt": "red"}, None, "has the key 'txt', which is no input; did you mean 'text'"),
    ({"fotos": "a.png"}, None, "has the key 'fotos', which is no input; did you mean 'photo'"),
    ({"sku": 7}, None, "every input is missing; give at least photo or text or sound"),
    ("red", None, "is a str; give one dict per record"),
]


@pytest.mark.parametrize(("bad", "input_name", "reason"), BAD)
def test_a_bad_record_raises_and_says_where(
    predictor: Predictor, bad: Any, input_name: str | None, reason: str
) -> None:
    with pytest.raises(RecordError, match=reason) as error:
        predictor.predict([{"text": "red"}, {"text": "blue"}, bad], batch_size=2)
    assert (error.value.row, error.value.input) == (2, input_name)


def test_errors_stand_in_their_records_places(predictor: Predictor) -> None:
    good = {"text": "red round"}
    rows = [good, BAD[0][0], BAD[3][0], good, BAD[7][0], BAD[5][0]]
    answers = predictor.predict(rows, batch_size=2, on_error="return")
    assert [isinstance(answer, RecordError) for answer in answers] == [False, True, True, False, True, True]
    errors = [answer for answer in answers if isinstance(answer, RecordError)]
    assert [error.row for error in errors] == [1, 2, 4, 5]
    first, second = (answer for answer in answers if isinstance(answer, dict))
    assert first["price"].value == second["price"].value


def test_a_given_but_unreadable_cell_is_never_taken_for_a_missing_one(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    (tmp_path / "t.csv").write_text("image,text\nbroken.png,red\n,red\n")
    answers = predictor.predict(tmp_path / "t.csv", on_error="return")
    assert isinstance(answers[0], RecordError)
    assert "broken.png" in answers[0].reason
    assert isinstance(answers[1], dict)


def test_media_of_a_manifest_lie_inside_its_folder(predictor: Predictor, media: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"image,text\n{media / '0.png'},red\n")
    with pytest.raises(RecordError, match="is an absolute path"):
        predictor.predict(tmp_path / "t.csv")
    outside = read_records(tmp_path / "t.csv", allow_outside=True)
    assert predictor.predict(outside)[0]["color"].missing == ("sound",)


def test_a_manifest_without_a_column_misses_that_input_and_says_so(
    predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    frame = pd.DataFrame([{"text": "red", "color": "red"}])
    with caplog.at_level(logging.WARNING):
        (answer,) = predictor.predict(frame)
    assert answer["color"].missing == ("photo", "sound")
    assert "DataFrame has no column 'image': the input photo is missing in every record" in caplog.text


def test_a_misspelt_column_is_refused(predictor: Predictor) -> None:
    with pytest.raises(ManifestError, match="has no column 'text' but 'Text'; rename it, or add an empty column"):
        predictor.predict(pd.DataFrame([{"Text": "red", "image": None}]))


def test_a_manifest_without_any_input_is_refused(predictor: Predictor) -> None:
    with pytest.raises(ManifestError, match="has none of the columns image, text, sound; it has price"):
        predictor.predict(pd.DataFrame([{"price": 3}]))


@pytest.mark.parametrize("given", [3, {"text": "red"}, b"bytes", None])
def test_what_is_no_list_of_records_is_refused(predictor: Predictor, given: Any) -> None:
    with pytest.raises(TypeError, match="give a list of dicts, one per record, or a manifest"):
        predictor.predict(given)


def test_a_batch_has_at_least_one_record(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match="batch_size is 0; give at least 1"):
        predictor.predict([], batch_size=0)


def test_an_unknown_on_error_is_refused(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match="on_error is 'skip'; give 'raise' or 'return'"):
        predictor.predict([], on_error="skip")  # type: ignore[call-overload]


def test_a_precision_that_the_bundle_lacks_is_refused(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="precision is 'int8'; this bundle holds fp32"):
        Predictor.load(bundle.folder, precision="int8")


def test_it_says_what_it_takes_and_gives(predictor: Predictor) -> None:
    assert predictor.inputs["photo"] == BundleInput(
        "image", "image", (TensorSpec("pixels", "uint8", ("batch", 3, 16, 16)),)
    )
    assert predictor.modalities == {"photo": "image", "text": "text", "sound": "audio"}
    assert predictor.tasks == {"color": "classification", "linear": "multilabel", "price": "regression"}
    assert predictor.device == "cpu"
    assert predictor.embedding_dim == 8


def test_a_graph_that_the_bundle_does_not_declare_is_refused(predictor: Predictor, bundle: Bundle) -> None:
    inputs = {**bundle.inputs, "photo": bundle.inputs["text"]}
    other = Bundle(**{**vars(bundle), "inputs": inputs})
    with pytest.raises(BundleError, match=r"the ONNX graph takes .* but the bundle declares .*; export it again"):
        check_signature(other, predictor.session)


def test_a_plugin_preprocessor_is_loaded_only_where_it_is_allowed(copied: Path) -> None:
    rewrite(copied, "inputs/photo/preprocess.json", {"kind": "satellite/v1", "distribution": "satellite-encoders"})
    with pytest.raises(BundleError, match=r"allow_plugins=\('satellite/v1',\)"):
        Predictor.load(copied)
    with pytest.raises(BundleError, match="is not installed; run: pip install satellite-encoders"):
        Predictor.load(copied, allow_plugins=["satellite/v1"])


def test_an_answer_that_is_not_finite_is_none(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor.load(bundle.folder)
    plainly = predictor.run

    def run(feed: Any) -> Any:
        spoilt = np.array([text.sum() == longest for text in feed["text.attention_mask"]])
        return {name: np.where(spoilt[:, None], np.nan, values) for name, values in plainly(feed).items()}

    texts = ["red", "red and green and blue", "blue"]
    longest = max(predictor.read({"text": text})["text"][0]["attention_mask"].sum() for text in texts)
    monkeypatch.setattr(predictor, "run", run)
    found = predictor.predict([{"text": text} for text in texts], on_error="return")
    assert [isinstance(one, RecordError) for one in found] == [False, True, False]
    assert isinstance(found[1], RecordError)
    assert (
        found[1].reason
        == "cannot be predicted: its outputs are not finite; its values are beyond the range of the model"
    )


def test_looking_ahead_changes_no_answer(bundle: Bundle) -> None:
    predictor = Predictor.load(bundle.folder, device="cpu", precision="fp32")
    records = [{"text": "red " * (1 + 5 * index % 7)} for index in range(11)]
    expected = [found["price"].value for found in predictor.predict(records, batch_size=1)]
    for look_ahead in (0, 1, 5):
        batches = predictor.predict_batches(records, batch_size=3, look_ahead=look_ahead)
        given = [found["price"].value for batch in batches for found in batch]  # type: ignore[index]
        assert_close(given, expected, "onnx")
    with pytest.raises(ValueError, match="look_ahead is -1; give 0 or more batches"):
        predictor.predict_batches(records, look_ahead=-1)
