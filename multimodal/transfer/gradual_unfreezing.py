"""Gradual unfreezing: from the output side to the input side, a stage at a time."""

from dataclasses import dataclass, field

from multimodal.model import MultimodalModel
from multimodal.transfer.plan import EncoderPolicy, Phase, TransferStrategy, encoder_groups, head_groups, trained_depth


@dataclass(frozen=True)
class GradualUnfreezing(TransferStrategy):
    """Heads first; then an epoch for each depth group more; the last stage takes what is left.

    ULMFiT (Howard and Ruder, 2018, https://arxiv.org/abs/1801.06146). Ours differs: with fewer epochs than depth
    groups, several groups are unfrozen at once, so that the last stage always trains all of them.

    When not to use: with many labels, where training everything at once arrives earlier.
    """

    policy: EncoderPolicy = field(default_factory=EncoderPolicy)

    def plan(self, model: MultimodalModel, epochs: int) -> list[Phase]:
        """One phase a stage."""
        trained, fresh = trained_depth(model, self.policy), self.policy.fresh
        deepest = max((len(depth) for name, depth in trained.items() if name not in fresh), default=0)
        stages = min(deepest + 1, epochs)
        phases = []
        for stage in range(stages):
            last = deepest if stage == stages - 1 else deepest * stage // (stages - 1)
            groups = head_groups(model) + encoder_groups(model, self.policy, last=last)
            length = epochs - stages + 1 if stage == stages - 1 else 1
            phases.append(Phase(f"unfreeze_{last}" if stage else "heads", length, groups))
        return phases if stages > 1 else [Phase("finetune", epochs, phases[0].groups)]
