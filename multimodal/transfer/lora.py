"""Low-rank adaptation: small matrices beside frozen ones, merged into them at the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from encoders.adapters import add_lora, merge_lora
from fusion.names import module_key
from multimodal.model import MultimodalModel
from multimodal.transfer.plan import EncoderPolicy, ParamGroup, Phase, encoder_groups, head_groups
from multimodal.transfer.strategies import PolicyStrategy


@dataclass(frozen=True)
class LowRankAdaptation(PolicyStrategy):
    """Trains heads, and of pretrained encoders only low-rank updates of some matrices.

    LoRA (Hu et al., 2021, https://arxiv.org/abs/2106.09685). The updates are merged
    after training. Encoders with random weights train whole.

    When not to use: with small encoders, which can be fine-tuned at the same cost.

    Args:
        rank, alpha, dropout: of the low-rank updates.
        targets: input -> names of modules to adapt; others are chosen by ``add_lora``.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def prepare(self, model: MultimodalModel) -> None:
        """Adds the low-rank updates."""
        for name in self._adapted(model):
            add_lora(
                model.encoder(name),
                rank=self.rank,
                alpha=self.alpha,
                dropout=self.dropout,
                target_modules=self.targets.get(name),
            )

    def finish(self, model: MultimodalModel) -> None:
        """Merges them."""
        for name in self._adapted(model):
            merge_lora(model.encoder(name))

    def plan(self, model: MultimodalModel, epochs: int) -> list[Phase]:
        """One phase, of a model that was prepared."""
        names = [name for name, _ in model.named_parameters()]
        whole = EncoderPolicy(self.policy.scales, self.policy.frozen | set(self._adapted(model)), self.policy.fresh)
        groups = list(head_groups(model) + encoder_groups(model, whole))
        for name in self._adapted(model):
            prefix = f"encoders.{module_key(name)}."
            params = tuple(param for param in names if param.startswith(prefix) and ".lora_" in param)
            groups.append(ParamGroup(f"lora.{name}", params, self.policy.scales.get(name, 1.0)))
        return [Phase("lora", epochs, tuple(groups))]

    def _adapted(self, model: MultimodalModel) -> list[str]:
        return [name for name in model.encoders if name not in self.policy.frozen | self.policy.fresh]
