"""Layer-wise learning rates: the deeper towards the input, the smaller."""

from dataclasses import dataclass, field

from multimodal.model import MultimodalModel
from multimodal.transfer.plan import EncoderPolicy, ParamGroup, Phase, TransferStrategy, head_groups, trained_depth


@dataclass(frozen=True)
class LayerwiseDecay(TransferStrategy):
    """Trains everything at once; each depth group's learning rate is ``decay`` times that of the next one.

    Discriminative fine-tuning (Howard and Ruder, 2018, https://arxiv.org/abs/1801.06146); as a geometric series over
    all layers in ELECTRA (Clark et al., 2020, https://arxiv.org/abs/2003.10555). Encoders with random weights train
    alike at every depth.

    When not to use: where source and target differ in their low-level features (photos, then X-rays).

    Args:
        decay: factor from one depth group to the one before it, in (0, 1].
    """

    policy: EncoderPolicy = field(default_factory=EncoderPolicy)
    decay: float = 0.75

    def plan(self, model: MultimodalModel, epochs: int) -> list[Phase]:
        """One phase."""
        groups = list(head_groups(model))
        for name, depth in trained_depth(model, self.policy).items():
            for index, params in enumerate(depth):
                above = 0 if name in self.policy.fresh else len(depth) - 1 - index
                scale = self.policy.scales.get(name, 1.0) * self.decay**above
                groups.append(ParamGroup(f"encoder.{name}.{index}", params, scale))
        return [Phase("finetune", epochs, tuple(groups))]
