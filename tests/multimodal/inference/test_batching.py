"""Reading ahead: answers in order, like lengths together, one bad record alone."""

import threading
from typing import Any

import numpy as np
import pytest

from multimodal.decoding import Prediction
from multimodal.inference.batching import length_key, predicted_batches
from multimodal.inference.sources import RecordSource, Sample
from multimodal.records import RecordError


class Source(RecordSource):
    """Rows are lengths; a negative one cannot be read."""

    def read(self, number: int, row: Any) -> Sample | RecordError:
        return RecordError(number, None, "bad") if row < 0 else {"text": ({"ids": np.zeros(row)}, True)}


def source(rows: Any) -> Source:
    return Source(rows, {}, None, True, strict_keys=True)


def run(rows: Any, **options: Any) -> tuple[list[list[Any]], list[list[int]]]:
    """The answers, a record's being its length; and the lengths of each batch."""
    batches: list[list[int]] = []

    def answer(samples: list[Sample]) -> list[dict[str, Prediction]]:
        lengths = [len(sample["text"][0]["ids"]) for sample in samples]
        batches.append(lengths)
        return [{"length": Prediction(value=float(length))} for length in lengths]

    defaults = {"batch_size": 2, "on_error": "return", "look_ahead": 0}
    given = list(predicted_batches(source(rows), answer, **{**defaults, **options}))
    plain = [[a if isinstance(a, RecordError) else a["length"].value for a in batch] for batch in given]
    return plain, batches


ROWS = [50, 1, 60, 2, 55, 3, 52, 4]


def test_without_looking_ahead_batches_are_those_of_the_table():
    assert run(ROWS) == ([[50, 1], [60, 2], [55, 3], [52, 4]], [[50, 1], [60, 2], [55, 3], [52, 4]])


def test_records_of_like_length_share_a_batch_and_answers_keep_their_order():
    answers, batches = run(ROWS, look_ahead=3)
    assert answers == [[50, 1], [60, 2], [55, 3], [52, 4]]
    assert batches == [[1, 2], [3, 4], [50, 52], [55, 60]]


def test_a_bad_record_costs_no_other_its_answer():
    answers, batches = run([5, -1, 4, -1, -1, 3, 2], look_ahead=1)
    flat = [answer for batch in answers for answer in batch]
    assert [isinstance(answer, RecordError) for answer in flat] == [False, True, False, True, True, False, False]
    assert [answer for answer in flat if not isinstance(answer, RecordError)] == [5, 4, 3, 2]
    assert [error.row for error in flat if isinstance(error, RecordError)] == [1, 3, 4]
    assert [len(batch) for batch in answers] == [2, 2, 2, 1]
    assert batches == [[5, 4], [3, 2]]  # each fills one batch, so there is nothing to sort


def test_the_first_bad_record_is_raised():
    with pytest.raises(RecordError, match=r"record 2 .counted from 0.: bad"):
        run([5, 4, -1, 3, -1], look_ahead=3, on_error="raise")


@pytest.mark.parametrize(("look_ahead", "spoilt"), [(0, 2), (3, 7)])
def test_a_record_that_the_model_fails_on_costs_no_other_its_answer(look_ahead: int, spoilt: int) -> None:
    def answer(samples: list[Sample]) -> list[dict[str, Prediction]]:
        lengths = [len(sample["text"][0]["ids"]) for sample in samples]
        if ROWS[spoilt] in lengths:
            raise OSError("out of range")
        return [{"length": Prediction(value=float(length))} for length in lengths]

    def answers(on_error: Any) -> list[Any]:
        batches = predicted_batches(source(ROWS), answer, batch_size=2, on_error=on_error, look_ahead=look_ahead)
        return [one for batch in batches for one in batch]

    found = answers("return")
    problem = found.pop(spoilt)
    assert isinstance(problem, RecordError)
    assert (problem.row, problem.reason) == (spoilt, "cannot be predicted: out of range")
    assert [one["length"].value for one in found] == [row for row in ROWS if row != ROWS[spoilt]]
    with pytest.raises(RecordError, match="cannot be predicted: out of range"):
        answers("raise")


def test_a_model_that_answers_none_of_several_is_no_records_fault() -> None:
    def answer(samples: list[Sample]) -> list[dict[str, Prediction]]:
        raise OSError("the device is gone")

    with pytest.raises(OSError, match="the device is gone"):
        list(predicted_batches(source(ROWS), answer, batch_size=4, on_error="return", look_ahead=0))


def test_at_most_two_windows_are_read():
    taken, before = list[int](), set(threading.enumerate())

    def rows() -> Any:
        for index in range(100):
            taken.append(index)
            yield 1

    batches = predicted_batches(
        source(rows()), lambda samples: [{} for _ in samples], batch_size=2, on_error="return", look_ahead=3
    )
    next(batches)
    assert len(taken) == 16
    batches.close()
    assert not [thread for thread in {*threading.enumerate()} - before if thread.name.startswith("reader")]


def test_reading_goes_on_while_a_window_is_answered():
    answering = threading.Event()
    seen: list[bool] = []

    class Slow(Source):
        def read(self, number: int, row: Any) -> Sample | RecordError:
            if number >= 2:  # of the second window
                seen.append(answering.wait(60))
            return super().read(number, row)

    def answer(samples: list[Sample]) -> list[dict[str, Prediction]]:
        answering.set()
        return [{} for _ in samples]

    slow = Slow([1, 1, 1, 1], {}, None, True, strict_keys=True)
    assert len(list(predicted_batches(slow, answer, batch_size=1, on_error="return", look_ahead=1))) == 4
    assert seen == [True, True]


def test_lengths_are_compared_input_by_input():
    def sample(audio: int, words: int) -> Sample:
        return {"audio": ({"waveform": np.zeros(audio)}, True), "text": ({"ids": np.zeros(words)}, True)}

    assert length_key(sample(1000, 3)) < length_key(sample(1020, 9)) < length_key(sample(1010, 20))


def test_one_record_is_read_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a thread was started")

    monkeypatch.setattr("multimodal.inference.batching.ThreadPoolExecutor", refuse)
    assert run([7], batch_size=32, look_ahead=3) == ([[7]], [[7]])
