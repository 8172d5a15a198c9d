"""Options and state of the trainer: data, without the loop."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from multimodal.runtime.runtime import Precision
from multimodal.transfer.plan import OptimizerSpec

logger = logging.getLogger(__name__)

MAX_NON_FINITE = 3
"""Steps in a row with a non-finite loss until training stops."""


class TrainingError(RuntimeError):
    """Training that cannot continue; the message says what was seen and what to try."""


@dataclass(frozen=True)
class TrainerOptions:
    """Options of the loop; what trains is the plan's business."""

    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    """For phases that name none."""
    task_weights: Mapping[str, float] = field(default_factory=dict)
    """Task -> weight of its loss, for every head."""
    clip_norm: float | None = 1.0
    precision: Precision = "fp32"
    seed: int = 0
    patience: int | None = None
    """Epochs without a better score until a phase ends, for phases that name none."""
    checkpoint_steps: int | None = None
    """Steps between checkpoints, besides one at each epoch's end."""
    on_error: Literal["raise", "skip"] = "raise"
    project_conflicts: bool = False
    """Removes from each task's gradient on shared parameters what works against another task."""
    gradient_cosine: bool = False
    """Measures the cosines of the tasks' gradients in the last step of each epoch."""


@dataclass
class TrainerState:
    """State of a training; JSON, saved with every checkpoint."""

    step: int = 0
    """Optimizer steps made, over all phases."""
    phase: int = 0
    phase_start: int = 0
    """Step at which the phase began."""
    best_score: float | None = None
    bad_epochs: int = 0
    """Epochs of this phase since the best score."""
    loss_sum: float = 0.0
    loss_steps: int = 0
    """Steps of this epoch, and the sum of their losses."""
    non_finite: list[dict[str, Any]] = field(default_factory=list)
    """Steps that were left out because their loss was not finite: {"step", "rows"}."""
    non_finite_in_a_row: int = 0
    skipped_rows: dict[str, str] = field(default_factory=dict)
    """Row (from 0) -> why it could not be read."""
    stopped: bool = False
    """A tracker ended the training."""
    part_size: int | None = None
    """Records at a time that the device's memory was seen to hold; None where every part has fitted."""
    seconds: float = 0.0
    """Of the processes before this one, up to the checkpoint that it resumed from."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One entry per epoch."""

    def count_step(self, loss: float, rows: Sequence[int]) -> None:
        """Counts a step of these rows.

        Raises:
            TrainingError: if the loss was not finite three times in a row.
        """
        self.step += 1
        if math.isfinite(loss):
            self.loss_sum, self.loss_steps, self.non_finite_in_a_row = self.loss_sum + loss, self.loss_steps + 1, 0
            return
        self.non_finite.append({"step": self.step, "rows": list(rows)})
        self.non_finite_in_a_row += 1
        logger.warning(f"step {self.step}: the loss is not finite; the step is left out (rows {rows})")
        if self.non_finite_in_a_row >= MAX_NON_FINITE:
            raise TrainingError(
                f"the loss was not finite {MAX_NON_FINITE} steps in a row, up to step {self.step} (rows {rows}); "
                "lower train.learning_rate, set train.precision to fp32, or look at these records"
            )

    def take_mean_loss(self) -> float:
        """Mean loss of the steps of this epoch, which are then forgotten."""
        mean = self.loss_sum / self.loss_steps if self.loss_steps else math.nan
        self.loss_sum, self.loss_steps = 0.0, 0
        return mean
