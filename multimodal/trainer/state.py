"""What the trainer is told, and where it stands: data, without the loop."""

from dataclasses import dataclass, field
from typing import Any, Literal

from multimodal.runtime.device import Precision
from multimodal.transfer.plan import OptimizerSpec


@dataclass(frozen=True)
class TrainerOptions:
    """How the loop runs; what trains is the plan's business."""

    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    """For phases that name none."""
    accumulate: int = 1
    """Parts that each step's batch is cut into."""
    clip_norm: float | None = 1.0
    precision: Precision = "fp32"
    seed: int = 0
    patience: int | None = None
    """Epochs without a better score until a phase ends, for phases that name none."""
    checkpoint_steps: int | None = None
    """Steps between checkpoints, besides one at each epoch's end."""
    workers: int = 0
    """Decoding processes."""
    on_error: Literal["raise", "skip"] = "raise"
    project_conflicts: bool = False
    """Whether each task's gradient on what is shared loses what works against another task."""
    gradient_cosine: bool = False
    """Whether the cosines of the tasks' gradients are measured in the last step of each epoch."""


@dataclass
class TrainerState:
    """Where training stands; JSON, saved with every checkpoint."""

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
    part_size: int | None = None
    """Records at a time that the device's memory was seen to hold; None where every part has fitted."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One entry an epoch."""
