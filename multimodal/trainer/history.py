"""History of a training: one entry per epoch, as CSV, as a line of progress, and for observers."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from multimodal.runtime.files import write_atomically
from multimodal.trainer.gradients import COSINE
from multimodal.trainer.state import TrainerState

HISTORY_FILE = "history.csv"


class TrainingObserver:
    """Callbacks of a training, which do nothing; called in the main process alone."""

    def on_start(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Takes the entries of the epochs before a resume; none for a new training."""

    def on_epoch(self, entry: Mapping[str, Any]) -> None:
        """Takes the entry of an epoch: "epoch", "phase", "step", and numbers."""

    def on_end(self, state: TrainerState) -> None:
        """Takes the state of a training that has ended by itself."""


class RunHistory:
    """Entries per epoch, which live in the state of the trainer.

    Args:
        file: takes all entries after each epoch.
        is_main: whether this process writes, and has observers.
    """

    def __init__(self, file: Path, *, is_main: bool) -> None:
        self.file, self.is_main = file, is_main
        self.observers: list[TrainingObserver] = []

    def start(self, state: TrainerState) -> None:
        """Begins, or resumes."""
        for observer in self._called():
            observer.on_start(state.history)

    def add(self, state: TrainerState, entry: dict[str, Any]) -> None:
        """Adds the entry of an epoch."""
        state.history.append(entry)
        if self.is_main:
            write_atomically(self.file, _as_csv(state.history))
        for observer in self._called():
            observer.on_epoch(entry)

    def end(self, state: TrainerState) -> None:
        """Ends."""
        for observer in self._called():
            observer.on_end(state)

    def _called(self) -> Sequence[TrainingObserver]:
        return self.observers if self.is_main else ()


def describe_entry(entry: Mapping[str, Any]) -> str:
    """Phase, epoch and numbers of an entry, without the cosines of gradients."""
    numbers = {key: value for key, value in entry.items() if isinstance(value, float) and not key.startswith(COSINE)}
    shown = ", ".join(f"{key} {value:.4g}" for key, value in numbers.items())
    return f"{entry['phase']}: epoch {entry['epoch']}, {shown}"


def _as_csv(history: Sequence[Mapping[str, Any]]) -> bytes:
    columns = list(dict.fromkeys(key for entry in history for key in entry))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue().encode()
