"""Partial fine-tuning: the last depth groups of each encoder."""

from dataclasses import dataclass, field, replace

from multimodal.model import MultimodalModel
from multimodal.transfer.plan import EncoderPolicy, Phase, TransferStrategy, encoder_groups, head_groups


@dataclass(frozen=True)
class Partial(TransferStrategy):
    """Trains heads, and of encoders with weights only the depth groups from ``unfreeze_from`` on.

    Early layers are the more general ones (Yosinski et al., 2014, https://arxiv.org/abs/1411.1792). Encoders with
    random weights train whole.

    When not to use: where source and target differ in their low-level features (photos, then X-rays), which the
    frozen layers keep; with encoders of one depth group, of which it trains all.

    Args:
        policy: its ``unfreeze_from`` is not used.
        unfreeze_from: first depth group that trains; below 0 it counts from the output.
    """

    policy: EncoderPolicy = field(default_factory=EncoderPolicy)
    unfreeze_from: int = -1

    def plan(self, model: MultimodalModel, epochs: int) -> list[Phase]:
        """One phase."""
        policy = replace(self.policy, unfreeze_from=self.unfreeze_from)
        return [Phase(f"from_{self.unfreeze_from}", epochs, head_groups(model) + encoder_groups(model, policy))]
