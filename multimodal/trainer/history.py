"""History of a training: one entry per epoch, as CSV, as a line of progress, and for trackers."""

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from multimodal.config import Job
from multimodal.runtime.files import write_atomically
from multimodal.trainer.gradients import COSINE
from multimodal.trainer.state import TrainerState

logger = logging.getLogger(__name__)

HISTORY_FILE = "history.csv"


class Tracker:
    """Observer of a training, in the main process; may end it, and changes nothing else.

    Built as ``Tracker(**options)``, with the options of the job. An error in a tracker ends the training.
    """

    def on_start(self, job: Job, folder: Path) -> None:
        """Takes the job and the run's folder, before the first step of a training or of its resumption."""

    def on_epoch(self, metrics: Mapping[str, Any]) -> bool | None:
        """Takes the entry of an epoch: "epoch", "phase", "step", and numbers; True ends the training."""

    def on_end(self, summary: Mapping[str, Any]) -> None:
        """Takes the training's summary, once the weights are written."""


class RunHistory:
    """Entries per epoch, which live in the state of the trainer.

    Args:
        file: takes all entries after each epoch.
        is_main: whether this process writes, and calls trackers.
        trackers: observers of the training.
    """

    def __init__(self, file: Path, *, is_main: bool, trackers: Sequence[Tracker] = ()) -> None:
        self.file, self.is_main, self.trackers = file, is_main, trackers

    def add(self, state: TrainerState, entry: dict[str, Any]) -> bool:
        """Adds the entry of an epoch; True where a tracker ends the training."""
        state.history.append(entry)
        if not self.is_main:
            return False
        write_atomically(self.file, _as_csv(state.history))
        ending = [tracker for tracker in self.trackers if tracker.on_epoch(dict(entry))]
        for tracker in ending:
            logger.info(f"{type(tracker).__name__} ends the training after epoch {entry['epoch']}")
        return bool(ending)


def describe_entry(entry: Mapping[str, Any]) -> str:
    """Phase, epoch and numbers of an entry; of each task the first metric, of gradients no cosines."""
    numbers = {key: value for key, value in entry.items() if isinstance(value, float) and not key.startswith(COSINE)}
    firsts = {key.rpartition(".")[0] or key: key for key in reversed(numbers)}  # task -> its first metric
    shown = ", ".join(f"{key} {value:.4g}" for key, value in numbers.items() if key in firsts.values())
    return f"{entry['phase']}: epoch {entry['epoch']}, {shown}"


def _as_csv(history: Sequence[Mapping[str, Any]]) -> bytes:
    columns = list(dict.fromkeys(key for entry in history for key in entry))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue().encode()
