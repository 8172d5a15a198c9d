"""The training loop."""

from multimodal.trainer.checkpointer import BEST_FILE, CHECKPOINTS, fixed_tensors
from multimodal.trainer.history import HISTORY_FILE, RunHistory, Tracker
from multimodal.trainer.state import MAX_NON_FINITE, TrainingError
from multimodal.trainer.trainer import Hooks, Trainer

__all__ = [
    "BEST_FILE",
    "CHECKPOINTS",
    "HISTORY_FILE",
    "MAX_NON_FINITE",
    "Hooks",
    "RunHistory",
    "Tracker",
    "Trainer",
    "TrainingError",
    "fixed_tensors",
]
