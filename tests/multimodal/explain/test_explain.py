"""Explanations of models that are known in full: what they look at is what must be found."""

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.assertions import assert_close
from support.tiny_models import tiny_tokenizer

from encoders.preprocessing.audio import AudioPreprocessor
from encoders.preprocessing.image import ImagePreprocessor
from encoders.preprocessing.text import TextPreprocessor
from multimodal.decoding import EMBEDDING, Decoding, Destandardize, Sigmoid, Softmax
from multimodal.explain.explanation_target import explanation_target
from multimodal.explain.neighbors import Neighbors
from multimodal.explain.parts import MAX_WORDS, parts_of, text_parts
from multimodal.explain.record import explain_record
from multimodal.explain.report import explain_table
from multimodal.explain.shapley import contributions, shapley_values, subsets_of
from multimodal.inference.record_model import RecordModel
from multimodal.records import InputReader, RecordError, Records, read_records

RATE, SIZE = 8000, 24
RED = 4  # its id in the tiny tokenizer
CORNER = (slice(0, 8), slice(16, 24))
"""Rows and columns that the model looks at."""
STRETCH = slice(RATE // 4, RATE // 4 + 400)
"""Samples that the model listens to."""

DECODINGS: dict[str, Decoding] = {
    "color": Softmax(("green", "red")),
    "tags": Sigmoid(("new", "sale"), (0.5, 0.5)),
    "price": Destandardize(10.0, 2.0, "EUR"),
}


def answer(stacked: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Evidence for "red": a bright corner in either picture, the word, a noise at one time; "memo" is never read."""
    light = sum(
        stacked[name]["present"] * stacked[name]["pixels"][:, :, *CORNER].mean(axis=(1, 2, 3)) / 255.0
        for name in ("front", "back")
    )
    word = stacked["text"]["present"] * (stacked["text"]["input_ids"] == RED).any(axis=1)
    waveform = np.pad(stacked["sound"]["waveform"], ((0, 0), (0, RATE)))
    loud = stacked["sound"]["present"] * np.abs(waveform[:, STRETCH]).mean(axis=1)
    red = light + 2.0 * word + 3.0 * loud
    return {
        "color": np.stack([np.zeros_like(red), red], axis=1),
        "tags": np.stack([red - 5.0, light], axis=1),
        "price": red[:, None],
        EMBEDDING: np.stack([light, word + 1e-3], axis=1) / np.hypot(light, word + 1e-3)[:, None],
    }


def make_box(*names: str) -> RecordModel:
    kinds = {
        "front": ImagePreprocessor(SIZE),
        "back": ImagePreprocessor(SIZE),
        "text": TextPreprocessor(tiny_tokenizer()),
        "sound": AudioPreprocessor(RATE),
        "memo": TextPreprocessor(tiny_tokenizer()),
    }
    readers = {name: InputReader(name, name, kinds[name]) for name in names or tuple(kinds)}

    def filled(stacked: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        rows = len(next(iter(stacked.values()))["present"])
        absent = {
            name: {**kind.stack([kind.blank()] * rows), "present": np.zeros(rows, bool)} for name, kind in kinds.items()
        }
        return answer(absent | stacked)

    return RecordModel(readers, DECODINGS, filled, has_embedding=True)


BOX = make_box("front", "back", "text", "sound")
PICTURE = np.full((SIZE, SIZE, 3), 20, np.uint8)
PICTURE[CORNER] = 250
SOUND = np.zeros(RATE // 2, np.float32)
SOUND[STRETCH] = 0.9


def table(**changes: Any) -> Records:
    row = {"front": PICTURE, "back": PICTURE, "text": "round red thing", "sound": (SOUND, RATE)}
    return read_records([{**row, **changes}])


def aims_of(box: RecordModel, records: Records) -> dict[str, Any]:
    outputs = box.outputs([box.read(records, 0)])
    return {task: explanation_target(task, decoding, outputs) for task, decoding in DECODINGS.items()}


def test_shapley_values_are_the_mean_over_all_orders_of_joining():
    players, rng = ("a", "b", "c", "d"), np.random.default_rng(0)
    value = {subset: float(rng.normal()) for subset in subsets_of(players)}
    expected = dict.fromkeys(players, 0.0)
    for order in permutations(players):
        for place, player in enumerate(order):
            before = frozenset(order[:place])
            expected[player] += (value[before | {player}] - value[before]) / 24
    found = shapley_values(players, value)
    assert_close(list(found.values()), list(expected.values()), "float64")


@pytest.mark.parametrize("task", DECODINGS)
def test_contributions_add_up_and_equal_inputs_get_equal_shares(task):
    records = table()
    aim, sample = aims_of(BOX, records)[task], BOX.read(records, 0)
    found = contributions(BOX, sample, [aim])[0]
    assert_close(sum(found.values.values()), found.all - found.none, "float64")
    assert_close(found.values["front"], found.values["back"], "float64")
    assert_close(found.all, aim.amount(BOX.outputs([sample]))[0], "float64")
    assert found.none == aim.amount(answer_of_nothing())[0]


def answer_of_nothing() -> dict[str, np.ndarray]:
    sample = {name: (reader.preprocessor.blank(), False) for name, reader in BOX.readers.items()}
    return BOX.outputs([sample])


def test_an_input_without_effect_and_one_that_is_missing_get_nothing():
    box, records = make_box("front", "text", "sound", "memo"), table(memo="blue thing", sound=None)
    found = contributions(box, box.read(records, 0), [aims_of(box, records)["color"]])[0]
    assert (found.values["memo"], found.values["sound"]) == (0.0, 0.0)
    assert found.unused == {"memo", "sound"}


def test_more_inputs_than_can_be_combined_are_refused():
    box = make_box()
    records = table(memo="blue")
    with pytest.raises(ValueError, match="the record has 5 inputs, and every combination of at most 4 is tried; leave"):
        contributions(box, box.read(records, 0), [])


def strongest(box: RecordModel, records: Records, name: str, task: str = "color") -> tuple[Any, np.ndarray]:
    sample = box.read(records, 0)
    parts = parts_of(box, name, records[0], sample)
    drops = parts.drops(box, sample, name, [aims_of(box, records)[task]])[0]
    return parts.spans[int(drops.argmax())], drops


def test_occlusion_finds_the_bright_corner():
    (left, top, right, bottom), drops = strongest(BOX, table(), "front")
    spans = parts_of(BOX, "front", table()[0], BOX.read(table(), 0)).spans
    assert 16 <= left < right <= 24
    assert 0 <= top < bottom <= 8
    far = [drop for (_, top, right, _), drop in zip(spans, drops, strict=True) if right <= 16 or top >= 8]
    assert max(np.abs(far)) < 1e-12 < drops.max()


def test_silencing_finds_the_noise():
    (start, end), drops = strongest(BOX, table(), "sound")
    assert start < STRETCH.stop
    assert end > STRETCH.start
    assert drops[0] == 0.0


def test_deletion_finds_the_word_and_a_text_of_one_word_is_missing_without_it():
    (start, end), drops = strongest(BOX, table(), "text")
    assert "round red thing"[start:end] == "red"
    assert_close(drops, [0.0, 2.0, 0.0], "float64")  # of logits, red against green
    span, drops = strongest(BOX, table(text="red"), "text", "price")
    assert span == (0, 3)
    assert_close(drops, [4.0], "float64")  # in EUR


def test_scripts_without_spaces_go_by_characters_and_long_texts_are_cut():
    parts = text_parts("赤い tin", lambda text: ({}, bool(text.strip())))
    assert parts.spans == [(0, 1), (1, 2), (3, 6)]
    assert len(text_parts("a " * 999, lambda text: ({}, True)).spans) == MAX_WORDS


def test_evidence_of_a_sure_answer_stays_finite_and_of_labels_is_their_log_odds():
    sure = {"color": np.array([[0.0, 90.0]]), "tags": np.array([[-3.0, 2.0]]), "price": np.array([[1.0]])}
    color, tags, price = (explanation_target(task, decoding, sure) for task, decoding in DECODINGS.items())
    assert np.isfinite(color.evidence(sure)).all()
    assert (tags.label, price.label, price.unit, color.unit) == ("sale", None, "EUR", "probability")
    assert_close(tags.evidence(sure), [2.0], "float64")
    assert_close(price.evidence(sure), [12.0], "float64")


def test_neighbours_are_ordered_by_their_cosine():
    rows = [{"text": "blue thing"}, {"front": PICTURE, "text": "red"}, {}, {"text": "red thing"}]
    neighbors = Neighbors.of(BOX, read_records(rows))
    assert neighbors.rows.tolist() == [0, 1, 3]  # a record without any input is nobody's neighbour
    vector = BOX.outputs([BOX.read(read_records([{"text": "square red"}]), 0)])[EMBEDDING][0]
    (first, similarity), (second, lower) = neighbors.nearest(vector, 2)
    assert (first, second) == (0, 3)  # nothing bright in either: both are at the same angle
    assert_close([similarity, lower], [1.0, 1.0], "float64")
    with pytest.raises(ValueError, match="has no record that can be read; give the table that trained the model"):
        Neighbors.of(BOX, read_records([{}]))
    blind = RecordModel(BOX.readers, BOX.decodings, BOX.forward, has_embedding=False)
    with pytest.raises(ValueError, match=r"no output `embedding`.* export it again with --embedding, or explain"):
        Neighbors.of(blind, read_records(rows))


def test_a_record_says_what_made_its_answers():
    records = table(back=None)
    content = explain_record(BOX, records, 0, tasks=list(DECODINGS)).content
    color = content["tasks"]["color"]
    assert (color["answer"], content["missing"]) == ("red", ["back"])
    assert color["parts"].keys() == {"front", "text", "sound"}
    words = {part["word"]: part["drop"] for part in color["parts"]["text"]["parts"]}
    assert max(words, key=words.get) == "red"
    stretches = color["parts"]["sound"]["parts"]
    assert stretches[-1]["end_seconds"] == 0.5
    assert content["tasks"]["price"]["explained"] == {"label": None, "unit": "EUR", "evidence_unit": "EUR"}
    assert content["tasks"]["tags"]["answer"] == ["new", "sale"]


def test_a_folder_has_a_json_and_pictures_a_record_and_a_page(tmp_path: Path):
    rows = [{**table()[0], "text": "red <b>"}, {"front": 7}, {}, {"text": "blue"}]
    failures: list[str] = []
    records = read_records(rows)
    out = tmp_path / "why"
    assert explain_table(
        BOX, records, out, tasks=["color"], rows=9, training=records, number=2, on_failure=failures.append
    ) == (2, 4)
    assert "records, row 2, column front: an image cannot be a int" in failures[0]
    assert "records, row 3: every input is missing; give at least front or back or text or sound" in failures[1]
    content = json.loads((out / "0001.json").read_text())
    assert content["neighbors"][0]["record"] == "records, row 1"
    assert content["inputs"]["front"] == "(ndarray)"
    names = {path.name for path in out.iterdir()}
    assert set(content["pictures"]) == {name for name in names if name.startswith("0001") and name.endswith("png")}
    assert {f"0001-color-{name}.png" for name in ("inputs", "front", "back", "text", "sound")} <= names
    for name in content["pictures"]:
        with Image.open(out / name) as image:
            assert image.width >= 600
    page = (out / "index.html").read_text()
    assert "red &lt;b&gt;" in page
    assert all(f'src="{name}"' in page for name in content["pictures"])
    with pytest.raises(ValueError, match="exists and is not an empty folder; name another one, or remove it first"):
        explain_table(BOX, records, out)
    with pytest.raises(LookupError, match="there is no task 'colour'; there are color, tags, price"):
        explain_table(BOX, records, tmp_path / "b", tasks=["colour"])


def test_a_record_that_cannot_be_read_names_its_place():
    with pytest.raises(RecordError, match="column text: a text cannot be a int"):
        explain_record(BOX, read_records([{"text": 7}]), 0, tasks=["color"])
