import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny_models import COLORS, make_dataset, make_model, make_rows

from multimodal.data.dataset import Batch, RecordDataset, collate, evaluation_batches, num_workers, training_batches
from multimodal.data.domains import JoinedDataset
from multimodal.data.order import BLANK, Order, StepSampler
from multimodal.runtime.workers import WorkerError

# --- one record --------------------------------------------------------------------------------------------------


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    return make_rows(tmp_path, 12)


def dataset(rows: list[dict[str, Any]], folder: Path) -> RecordDataset:
    return make_dataset(rows, folder, make_model())


def test_a_record_becomes_arrays_and_targets(rows, tmp_path):
    sample = dataset(rows, tmp_path)[0, 4]
    assert (sample.row, sample.error) == (4, None)
    assert sample.inputs["image"][0]["pixels"].shape == (3, 16, 16)
    assert sample.inputs["text"][0]["input_ids"].tolist() == [3, 5, 7]  # green round thing
    assert all(present for _, present in sample.inputs.values())
    assert sample.targets == {"color": list(COLORS).index("green"), "price": 2.0}


IN_MEMORY = [
    lambda image: np.asarray(image),
    lambda image: np.asarray(image) / 255,
    lambda image: np.asarray(image).transpose(2, 0, 1),
    lambda image: torch.from_numpy(np.asarray(image).transpose(2, 0, 1) / np.float32(255)),
    lambda image: image,
    lambda image: {"bytes": png(image), "path": None},
    lambda image: {"bytes": png(image), "path": "elsewhere.png"},
    lambda image: {"bytes": None, "path": "0.png"},
]


def png(image: Image.Image) -> bytes:
    image.save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("form", IN_MEMORY, ids=range(8))
def test_an_image_in_memory_is_read_as_its_file(rows, tmp_path, form):
    expected = dataset(rows, tmp_path)[0, 0].inputs["image"][0]["pixels"]
    rows[0]["image"] = form(Image.open(tmp_path / rows[0]["image"]).convert("RGB"))
    sample = dataset(rows, tmp_path)[0, 0]
    assert sample.error is None
    np.testing.assert_array_equal(sample.inputs["image"][0]["pixels"], expected)


def test_a_missing_input_and_a_missing_label_are_no_error(rows, tmp_path):
    rows[0] |= {"image": "", "color": None}
    sample = dataset(rows, tmp_path)[0, 0]
    assert sample.error is None
    assert [present for _, present in sample.inputs.values()] == [False, True]
    assert sample.targets == {"color": None, "price": 2.0}


@pytest.mark.parametrize(
    ("change", "name", "match"),
    [
        ({"image": "nothing.png"}, "image", "row 4, column image: 'nothing.png' does not exist"),
        ({"image": "torn.png"}, "image", "row 4, column image: 'torn.png': is not a readable JPEG, PNG or WebP"),
        ({"image": "../0.png"}, "image", "row 4, column image: '../0.png' has '..' in it"),
        ({"text": 3}, "text", "row 4, column text: a text cannot be a int"),
        ({"price": "cheap"}, "price", "row 4, column price: 'cheap' is not a finite number"),
        ({"color": ["red", "blue"]}, "color", "row 4, column color: .* is a list; a class label is one text"),
        ({"image": None, "text": " "}, None, r"row 4: every input is missing \(image, text\); fill in at least one"),
    ],
)
def test_a_record_that_cannot_be_used_is_a_blank_that_says_why(rows, tmp_path, change, name, match):
    (tmp_path / "torn.png").write_bytes(b"\x89PNG torn")
    rows[3] |= change
    data = dataset(rows, tmp_path)
    sample = data[0, 3]
    assert sample.error is not None
    assert (sample.error.row, sample.error.input) == (3, name)
    with pytest.raises(type(sample.error), match=match):
        raise sample.error
    assert sample.row == 3
    assert not any(present for _, present in sample.inputs.values())
    assert sample.targets == {"color": None, "price": None}
    for input_name, (arrays, _) in sample.inputs.items():
        blank = data.readers[input_name].preprocessor.blank()
        assert all(np.array_equal(arrays[key], blank[key]) for key in blank)


def test_a_bad_record_keeps_its_place_in_the_batch_and_no_other_takes_it(rows, tmp_path):
    good = next(iter(evaluation_batches(dataset(rows, tmp_path), batch_size=12)))
    rows[5]["image"] = "nothing.png"
    batch = next(iter(evaluation_batches(dataset(rows, tmp_path), batch_size=12)))
    assert batch.rows == list(range(12))
    assert [error.row for error in batch.errors] == [5]
    others = [row for row in range(12) if row != 5]
    assert torch.equal(batch.inputs["image"]["pixels"][others], good.inputs["image"]["pixels"][others])
    assert not batch.inputs["image"]["pixels"][5].any()
    assert not batch.inputs["text"]["present"][5]
    assert not any(known[5] for known in batch.known.values())


def test_a_blank_record_has_no_input_no_label_and_no_error(rows, tmp_path):
    sample = dataset(rows, tmp_path)[0, BLANK]
    assert sample.error is None
    assert not any(present for _, present in sample.inputs.values())
    assert set(sample.targets.values()) == {None}


def test_the_place_of_a_record_is_that_in_the_whole_table(rows, tmp_path):
    rows[7]["image"] = "nothing.png"
    whole = dataset(rows, tmp_path)
    part = RecordDataset(whole.records.subset([2, 7]), whole.readers, whole.targets)
    error = part[0, 1].error
    assert error is not None
    assert (error.row, "records, row 8, column image" in str(error)) == (1, True)


def test_augmentation_sees_the_epoch_and_the_row_and_only_present_values(rows, tmp_path):
    rows[1]["text"] = None
    seen = []

    def shout(raw: str, *, epoch: int, row: int) -> str:
        seen.append((epoch, row, raw))
        return "red"

    plain = dataset(rows, tmp_path)
    data = RecordDataset(plain.records, plain.readers, plain.targets, {"text": shout})
    assert data[3, 0].inputs["text"][0]["input_ids"].tolist() == [4]
    assert data[3, 1].inputs["text"][1] is False
    assert seen == [(3, 0, "blue round thing")]


# --- batches -----------------------------------------------------------------------------------------------------


def equal(left: Batch, right: Batch) -> bool:
    tensors = [
        (left.targets, right.targets),
        (left.known, right.known),
        *((left.inputs[name], right.inputs[name]) for name in left.inputs),
    ]
    same = all(a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) for a, b in tensors)
    return same and left.rows == right.rows and [str(e) for e in left.errors] == [str(e) for e in right.errors]


def test_a_batch_holds_the_declared_tensors_and_who_has_what(tmp_path):
    data = dataset(make_rows(tmp_path, 12, gaps=True), tmp_path)
    batch = collate([data[0, row] for row in (4, 3, 5, 6)], data.readers, data.targets)
    assert batch.inputs["image"]["pixels"].shape == (4, 3, 16, 16)
    assert batch.inputs["image"]["present"].tolist() == [True, False, True, True]
    assert batch.inputs["text"]["present"].tolist() == [False, True, True, True]
    assert batch.known["color"].tolist() == [True, True, False, True]
    assert batch.known["price"].tolist() == [True, True, True, False]
    assert batch.targets["color"].tolist() == [1, 0, 0, 0]
    for name, reader in data.readers.items():
        for spec in reader.preprocessor.tensors:
            assert str(batch.inputs[name][spec.name].dtype) == f"torch.{spec.dtype}"
    assert batch.inputs["image"]["present"].dtype == torch.bool


def test_a_batch_moves_whole_to_another_device(rows, tmp_path):
    data = dataset(rows, tmp_path)
    batch = collate([data[0, 0]], data.readers, data.targets).to(torch.device("meta"))
    assert {t.device.type for tensors in batch.inputs.values() for t in tensors.values()} == {"meta"}
    assert {t.device.type for tensors in (batch.targets, batch.known) for t in tensors.values()} == {"meta"}


def test_evaluation_sees_every_record_once_in_order(rows, tmp_path):
    batches = list(evaluation_batches(dataset(rows, tmp_path), batch_size=5))
    assert [batch.rows for batch in batches] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]


def test_parts_of_a_step_are_cuts_of_its_batch(rows, tmp_path):
    data = dataset(rows, tmp_path)
    whole = list(training_batches(data, StepSampler(Order(12, 5, seed=0), 0, 4)))
    cut = list(training_batches(data, StepSampler(Order(12, 5, seed=0), 0, 4), parts=3))
    assert [[len(part.rows) for part in step] for step in cut] == [[2, 1, 1]] * 3 + [[2, 1, 1]]
    assert [[row for part in step for row in part.rows] for step in cut] == [step[0].rows for step in whole]


def test_there_are_never_more_parts_than_records(rows, tmp_path):
    data = dataset(rows, tmp_path)
    (step,) = training_batches(data, StepSampler(Order(12, 2, seed=0), 0, 1), parts=5)
    assert [len(part.rows) for part in step] == [1, 1]


def drop_a_word(raw: Any, *, epoch: int, row: int) -> str:
    return " ".join(word for index, word in enumerate(raw.split()) if index != (epoch + row) % 3)


def test_workers_change_nothing_in_the_batches(tmp_path):
    rows = make_rows(tmp_path, 12, gaps=True)
    rows[8]["image"] = "nothing.png"
    plain = dataset(rows, tmp_path)
    data = RecordDataset(plain.records, plain.readers, plain.targets, {"text": drop_a_word})
    sampler = StepSampler(Order(12, 5, seed=2), 2, 8)
    alone = list(training_batches(data, sampler, parts=2))
    beside = list(training_batches(data, sampler, parts=2, workers=2))
    assert len(alone) == len(beside) == 6
    assert all(equal(a, b) for left, right in zip(alone, beside, strict=True) for a, b in zip(left, right, strict=True))
    assert sum(len(part.errors) for step in beside for part in step) == 2
    evaluated = [list(evaluation_batches(data, batch_size=5, workers=workers)) for workers in (0, 2)]
    assert all(equal(a, b) for a, b in zip(*evaluated, strict=True))


def crash_at_7(raw: Any, *, epoch: int, row: int) -> str:
    if row == 7:
        os._exit(9)
    return raw


def test_a_process_that_dies_is_told_with_the_records_that_it_read(rows, tmp_path):
    plain = dataset(rows, tmp_path)
    data = RecordDataset(plain.records, plain.readers, plain.targets, {"text": crash_at_7})
    with pytest.raises(WorkerError, match="exit code 9 while it read records, row 6; records, row 7; and 3 more;"):
        list(evaluation_batches(data, batch_size=5, workers=2))


def test_a_record_of_joined_tables_is_named_by_its_own(rows, tmp_path):
    first = dataset(rows, tmp_path)
    data = JoinedDataset([first, RecordDataset(first.records.subset([4, 9]), first.readers, first.targets)])
    assert [data.place((0, row)) for row in (3, 12, 13, BLANK)] == [
        "records, row 4",
        "records, row 5",
        "records, row 10",
        "no record",
    ]


@pytest.mark.parametrize("workers", [0, 1])
def test_reading_batches_leaves_the_global_random_state_alone(rows, tmp_path, workers):
    data = dataset(rows, tmp_path)
    torch.manual_seed(1)
    np.random.seed(1)
    before, numpy_before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].copy()
    list(training_batches(data, StepSampler(Order(12, 5, seed=2), 0, 3), workers=workers))
    list(evaluation_batches(data, batch_size=5, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], numpy_before)


def test_a_dataset_can_be_sent_to_a_process_that_shares_no_memory(rows, tmp_path):
    data = dataset(rows, tmp_path)
    sent = pickle.loads(pickle.dumps(data))
    assert equal(*(collate([d[0, 3], d[0, 4]], d.readers, d.targets) for d in (data, sent)))


def test_the_number_of_workers_leaves_a_core_to_training(monkeypatch):
    assert num_workers(0) == 0
    assert num_workers(3) == 3
    for cores, expected in ((1, 1), (2, 1), (5, 4), (64, 8)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert num_workers("auto") == expected
