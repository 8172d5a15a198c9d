"""The training loop."""

from multimodal.trainer.checkpointer import CHECKPOINTS
from multimodal.trainer.history import HISTORY_FILE
from multimodal.trainer.trainer import Hooks, Trainer

__all__ = ["CHECKPOINTS", "HISTORY_FILE", "Hooks", "Trainer"]
