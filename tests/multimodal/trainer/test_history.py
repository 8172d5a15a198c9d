from pathlib import Path
from typing import Any

from multimodal.trainer.history import RunHistory, Tracker, describe_entry
from multimodal.trainer.state import TrainerState

ENTRY = {"epoch": 1, "phase": "probe", "step": 4, "loss": 0.25, "gradient_cosine.a.b": 0.5}


class Kept(Tracker):
    def __init__(self, last: int) -> None:
        self.last, self.entries = last, list[Any]()

    def on_epoch(self, metrics):
        self.entries.append(metrics)
        return metrics["epoch"] >= self.last


def add(file: Path, trackers: list[Tracker], *, is_main: bool) -> bool:
    history = RunHistory(file, is_main=is_main, trackers=trackers)
    return history.add(TrainerState(history=[ENTRY]), {**ENTRY, "epoch": 2, "color": 1.0})


def test_entries_are_written_and_observed(tmp_path):
    kept = Kept(last=3)
    assert not add(tmp_path / "history.csv", [Tracker(), kept], is_main=True)
    assert kept.entries == [{**ENTRY, "epoch": 2, "color": 1.0}]
    assert (tmp_path / "history.csv").read_text().splitlines() == [
        "epoch,phase,step,loss,gradient_cosine.a.b,color",
        "1,probe,4,0.25,0.5,",
        "2,probe,4,0.25,0.5,1.0",
    ]


def test_every_tracker_is_called_where_one_ends_the_training(tmp_path, caplog):
    caplog.set_level("INFO")
    first, second = Kept(last=2), Kept(last=3)
    assert add(tmp_path / "history.csv", [first, second], is_main=True)
    assert len(second.entries) == 1
    assert caplog.messages == ["Kept ends the training after epoch 2"]


def test_other_processes_write_nothing_and_call_nobody(tmp_path):
    kept = Kept(last=1)
    assert not add(tmp_path / "history.csv", [kept], is_main=False)
    assert kept.entries == []
    assert not list(tmp_path.iterdir())


def test_the_line_of_an_entry_has_its_numbers_but_no_cosines():
    assert describe_entry({**ENTRY, "score": 0.5}) == "probe: epoch 1, loss 0.25, score 0.5"


def test_the_line_of_an_epoch_has_the_first_metric_of_each_task_and_history_all():
    scores = {"color.accuracy": 0.5, "color.auc": 0.75, "the.price.rmse": 2.0, "the.price.r2": 0.1}
    entry = {**ENTRY, **scores, "score": 0.5}
    expected = "probe: epoch 1, loss 0.25, color.accuracy 0.5, the.price.rmse 2, score 0.5"
    assert describe_entry(entry) == expected
