"""The classic ways to use pretrained encoders."""

from dataclasses import dataclass, field

from multimodal.model import MultimodalModel
from multimodal.transfer.plan import EncoderPolicy, Phase, TransferStrategy, encoder_groups, head_groups


@dataclass(frozen=True)
class LinearProbe(TransferStrategy):
    """Freezes every encoder and trains fusion and heads.

    When not to use: with weak or distant source weights, where fine-tuning beats a frozen probe by far.
    """

    def plan(self, model: MultimodalModel, epochs: int) -> list[Phase]:
        """One phase."""
        return [Phase("probe", epochs, head_groups(model))]


@dataclass(frozen=True)
class TrainNothing(TransferStrategy):
    """Leaves the model as it was built, for heads that need no training.

    When not to use: with a head of random weights.
    """

    def plan(self, model: MultimodalModel, epochs: int) -> list[Phase]:
        """No phase."""
        return []


@dataclass(frozen=True)
class Finetune(TransferStrategy):
    """Trains everything at once, each encoder with its own factor on the learning rate."""

    policy: EncoderPolicy = field(default_factory=EncoderPolicy)

    def plan(self, model: MultimodalModel, epochs: int) -> list[Phase]:
        """One phase."""
        return [Phase("finetune", epochs, head_groups(model) + encoder_groups(model, self.policy))]


@dataclass(frozen=True)
class ProbeThenFinetune(TransferStrategy):
    """A converged probe first, then fine-tuning from it: random heads no longer distort the encoders.

    LP-FT (Kumar et al., 2022, https://arxiv.org/abs/2202.10054). Ours differs where a model has several encoders:
    the probe trains those that have random weights, of which nothing can be distorted.

    Args:
        probe_epochs: most epochs of the probe; None takes a third of all, at least one.
        probe_patience: epochs without a better metric that end the probe early.
    """

    policy: EncoderPolicy = field(default_factory=EncoderPolicy)
    probe_epochs: int | None = None
    probe_patience: int = 3

    def plan(self, model: MultimodalModel, epochs: int) -> list[Phase]:
        """Two phases; with a single epoch there is only time for the second."""
        probe = max(1, epochs // 3) if self.probe_epochs is None else self.probe_epochs
        probe = min(probe, epochs - 1)
        finetune = Finetune(self.policy).plan(model, epochs - probe)
        if probe == 0:
            return finetune
        new = head_groups(model) + encoder_groups(model, self.policy, last=0)
        return [Phase("probe", probe, new, patience=self.probe_patience), *finetune]
