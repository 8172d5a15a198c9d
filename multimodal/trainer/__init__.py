"""The training loop."""

from multimodal.trainer.trainer import (
    BEST_FILE,
    CHECKPOINTS,
    HISTORY_FILE,
    MAX_NON_FINITE,
    Trainer,
    TrainingError,
    fixed_tensors,
)

__all__ = ["BEST_FILE", "CHECKPOINTS", "HISTORY_FILE", "MAX_NON_FINITE", "Trainer", "TrainingError", "fixed_tensors"]
