"""Two phases with the classic setting: new heads to convergence, then all by small steps of SGD."""

from dataclasses import dataclass, field

from multimodal.model import MultimodalModel
from multimodal.transfer.plan import (
    EncoderPolicy,
    OptimizerSpec,
    Phase,
    TransferStrategy,
    encoder_groups,
    head_groups,
)

CLASSIC = OptimizerSpec("sgd", learning_rate=1e-4, weight_decay=0.0, momentum=0.9, warmup=0.0)
"""SGD with learning rate 1e-4 and momentum 0.9."""


@dataclass(frozen=True)
class TwoPhase(TransferStrategy):
    """Freezes encoders and trains new heads until they no longer get better; then unfreezes and goes on by SGD.

    The setting of https://blog.keras.io/building-powerful-image-classification-models-using-very-little-data.html: the
    second phase must not undo what the encoders know, so that its steps are small. How small depends on how alike
    source and target are (Li et al., 2020, https://arxiv.org/abs/2002.11770), and 1e-4 often hardly moves anything:
    the run says so. Encoders with random weights train in both phases.

    When not to use: where the run says that the weights hardly moved, before ``two_phase.learning_rate`` is raised;
    with a single epoch, which leaves no time for the first phase.

    Args:
        probe_epochs: most epochs of the first phase; None takes half of all, at least one.
        probe_patience: epochs without a better metric that end the first phase.
        optimizer: of the second phase; the first has the trainer's.
    """

    policy: EncoderPolicy = field(default_factory=EncoderPolicy)
    probe_epochs: int | None = None
    probe_patience: int = 3
    optimizer: OptimizerSpec = CLASSIC

    def plan(self, model: MultimodalModel, epochs: int) -> list[Phase]:
        """Two phases; with a single epoch there is only time for the second."""
        probe = max(1, epochs // 2) if self.probe_epochs is None else self.probe_epochs
        probe = min(probe, epochs - 1)
        everything = head_groups(model) + encoder_groups(model, self.policy)
        finetune = Phase("finetune", epochs - probe, everything, optimizer=self.optimizer)
        if probe == 0:
            return [finetune]
        new = head_groups(model) + encoder_groups(model, self.policy, last=0)
        return [Phase("probe", probe, new, patience=self.probe_patience), finetune]
