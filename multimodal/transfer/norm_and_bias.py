"""Fine-tuning of normalisation layers and biases alone."""

from dataclasses import dataclass, field

from torch import nn

from multimodal.model import MultimodalModel
from multimodal.transfer.plan import EncoderPolicy, ParamGroup, Phase, TransferStrategy, head_groups, trained_depth


@dataclass(frozen=True)
class NormAndBias(TransferStrategy):
    """Trains heads, and of encoders with weights only the normalisation layers and the biases.

    BitFit (Ben Zaken et al., 2022, https://arxiv.org/abs/2106.10199) for biases; Frankle et al. (2021,
    https://arxiv.org/abs/2003.00152) for normalisation. Encoders with random weights train whole.

    When not to use: where the encoder has few of them, or the target is far from the source.
    """

    policy: EncoderPolicy = field(default_factory=EncoderPolicy)

    def plan(self, model: MultimodalModel, epochs: int) -> list[Phase]:
        """One phase."""
        light = norm_and_bias_names(model)
        groups = list(head_groups(model))
        for name, depth in trained_depth(model, self.policy).items():
            params = [param for part in depth for param in part if name in self.policy.fresh or param in light]
            if params:
                groups.append(ParamGroup(f"encoder.{name}", tuple(params), self.policy.scales.get(name, 1.0)))
        return [Phase("norm_and_bias", epochs, tuple(groups))]


def norm_and_bias_names(model: nn.Module) -> set[str]:
    """Names of the parameters that are a bias, or belong to a normalisation layer."""
    found = {name for name, _ in model.named_parameters() if name.rpartition(".")[2] == "bias"}
    for prefix, module in model.named_modules():
        if "Norm" in type(module).__name__:
            found |= {f"{prefix}.{name}" for name, _ in module.named_parameters(recurse=False)}
    return found
