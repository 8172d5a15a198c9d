from typing import Any

from multimodal.trainer import RunHistory, TrainingObserver
from multimodal.trainer.history import describe_entry
from multimodal.trainer.state import TrainerState

ENTRY = {"epoch": 1, "phase": "probe", "step": 4, "loss": 0.25, "gradient_cosine.a.b": 0.5}


class Kept(TrainingObserver):
    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def on_start(self, history):
        self.calls.append(("start", list(history)))

    def on_epoch(self, entry):
        self.calls.append(("epoch", entry))

    def on_end(self, state):
        self.calls.append(("end", state.step))


def run(history: RunHistory) -> TrainerState:
    state = TrainerState(step=8, history=[ENTRY])
    history.observers.append(TrainingObserver())  # does nothing
    history.start(state)
    history.add(state, {**ENTRY, "epoch": 2, "color": 1.0})
    history.end(state)
    return state


def test_entries_are_written_and_observed(tmp_path):
    history, kept = RunHistory(tmp_path / "history.csv", is_main=True), Kept()
    history.observers.append(kept)
    assert len(run(history).history) == 2
    assert kept.calls == [("start", [ENTRY]), ("epoch", {**ENTRY, "epoch": 2, "color": 1.0}), ("end", 8)]
    assert (tmp_path / "history.csv").read_text().splitlines() == [
        "epoch,phase,step,loss,gradient_cosine.a.b,color",
        "1,probe,4,0.25,0.5,",
        "2,probe,4,0.25,0.5,1.0",
    ]


def test_other_processes_write_nothing_and_call_nobody(tmp_path):
    history, kept = RunHistory(tmp_path / "history.csv", is_main=False), Kept()
    history.observers.append(kept)
    assert len(run(history).history) == 2
    assert kept.calls == []
    assert not list(tmp_path.iterdir())


def test_the_line_of_an_entry_has_its_numbers_but_no_cosines():
    assert describe_entry({**ENTRY, "score": 0.5}) == "probe: epoch 1, loss 0.25, score 0.5"
