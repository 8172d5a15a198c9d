"""Strategies: what trains when, as phases of parameter groups."""

from dataclasses import dataclass, field, replace

from torch import nn

from multimodal.model import MultimodalModel
from multimodal.transfer.plan import (
    EncoderPolicy,
    OptimizerSpec,
    ParamGroup,
    Phase,
    TransferStrategy,
    encoder_groups,
    head_groups,
    trained_depth,
)


@dataclass(frozen=True)
class PolicyStrategy(TransferStrategy):
    """A strategy that is data: its policy, then its options."""

    policy: EncoderPolicy = field(default_factory=EncoderPolicy)


@dataclass(frozen=True)
class LinearProbe(PolicyStrategy):
    """Freezes every encoder and trains fusion and heads.

    When not to use: with weak or distant source weights, where fine-tuning beats a frozen probe by far.

    Args:
        policy: is not used.
    """

    def plan(self, model: MultimodalModel, epochs: int) -> list[Phase]:
        """One phase."""
        return [Phase("probe", epochs, head_groups(model))]


@dataclass(frozen=True)
class TrainNothing(PolicyStrategy):
    """Leaves the model as it was built, for heads that need no training.

    When not to use: with a head of random weights.

    Args:
        policy: is not used.
    """

    def plan(self, model: MultimodalModel, epochs: int) -> list[Phase]:
        """No phase."""
        return []


@dataclass(frozen=True)
class Finetune(PolicyStrategy):
    """Trains everything at once, each encoder with its own factor on the learning rate."""

    def plan(self, model: MultimodalModel, epochs: int) -> list[Phase]:
        """One phase."""
        return [Phase("finetune", epochs, head_groups(model) + encoder_groups(model, self.policy))]


@dataclass(frozen=True)
class ProbeThenFinetune(PolicyStrategy):
    """A converged probe first, then fine-tuning from it: random heads no longer distort the encoders.

    LP-FT (Kumar et al., 2022, https://arxiv.org/abs/2202.10054). Ours differs where a model has several encoders:
    the probe trains those that have random weights, of which nothing can be distorted.

    Args:
        probe_epochs: most epochs of the probe; None takes a third of all, at least one.
        probe_patience: epochs without a better metric that end the probe early.
    """

    probe_epochs: int | None = None
    probe_patience: int = 3

    def plan(self, model: MultimodalModel, epochs: int) -> list[Phase]:
        """Two phases; with a single epoch the second alone."""
        probe = max(1, epochs // 3) if self.probe_epochs is None else self.probe_epochs
        return _probe_first(model, self.policy, epochs, probe, self.probe_patience)


def _probe_first(model: MultimodalModel, policy: EncoderPolicy, epochs: int, probe: int, patience: int) -> list[Phase]:
    probe = min(probe, epochs - 1)
    finetune = Finetune(policy).plan(model, epochs - probe)
    if probe == 0:
        return finetune
    new = head_groups(model) + encoder_groups(model, policy, last=0)
    return [Phase("probe", probe, new, patience=patience), *finetune]


@dataclass(frozen=True)
class Partial(PolicyStrategy):
    """Trains heads, and of encoders with weights only the last depth group, or those from ``unfreeze_from`` on.

    Early layers are the more general ones (Yosinski et al., 2014, https://arxiv.org/abs/1411.1792). Encoders with
    random weights train whole.

    When not to use: where source and target differ in their low-level features (photos, then X-rays), which the
    frozen layers keep; with encoders of one depth group, of which it trains all.
    """

    def plan(self, model: MultimodalModel, epochs: int) -> list[Phase]:
        """One phase."""
        start = -1 if self.policy.unfreeze_from is None else self.policy.unfreeze_from
        groups = encoder_groups(model, replace(self.policy, unfreeze_from=start))
        return [Phase(f"from_{start}", epochs, head_groups(model) + groups)]


@dataclass(frozen=True)
class TwoPhase(PolicyStrategy):
    """Freezes encoders and trains new heads until they no longer get better; then fine-tunes all by SGD.

    The setting of https://blog.keras.io/building-powerful-image-classification-models-using-very-little-data.html: the
    second phase must not undo what the encoders know, so that its steps are small. How small depends on how alike
    source and target are (Li et al., 2020, https://arxiv.org/abs/2002.11770), and 1e-4 often hardly moves anything:
    the run says so. Encoders with random weights train in both phases.

    When not to use: where the run says that the weights hardly moved, before ``two_phase.learning_rate`` is raised;
    with a single epoch, which leaves no time for the first phase.

    Args:
        probe_epochs: most epochs of the first phase; None takes half of all, at least one.
        probe_patience: epochs without a better metric that end the first phase.
        learning_rate, momentum: of the second phase; the first steps as the trainer does.
    """

    probe_epochs: int | None = None
    probe_patience: int = 3
    learning_rate: float = 1e-4
    momentum: float = 0.9

    def plan(self, model: MultimodalModel, epochs: int) -> list[Phase]:
        """Two phases; with a single epoch the second alone."""
        probe = max(1, epochs // 2) if self.probe_epochs is None else self.probe_epochs
        phases = _probe_first(model, self.policy, epochs, probe, self.probe_patience)
        classic = OptimizerSpec("sgd", self.learning_rate, weight_decay=0.0, momentum=self.momentum, warmup=0.0)
        return [*phases[:-1], replace(phases[-1], optimizer=classic)]


@dataclass(frozen=True)
class GradualUnfreezing(PolicyStrategy):
    """Trains the heads first, then one more depth group per epoch; the last stage takes the remaining epochs.

    ULMFiT (Howard and Ruder, 2018, https://arxiv.org/abs/1801.06146). Ours differs: with fewer epochs than depth
    groups, several groups are unfrozen at once, so that the last stage always trains all of them.

    When not to use: with many labels, where training everything at once is faster.
    """

    def plan(self, model: MultimodalModel, epochs: int) -> list[Phase]:
        """One phase per stage."""
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


@dataclass(frozen=True)
class LayerwiseDecay(PolicyStrategy):
    """Trains everything at once; each depth group's learning rate is ``layer_decay`` times that of the next one.

    Discriminative fine-tuning (Howard and Ruder, 2018, https://arxiv.org/abs/1801.06146); as a geometric series over
    all layers in ELECTRA (Clark et al., 2020, https://arxiv.org/abs/2003.10555). Encoders with random weights train
    at one rate.

    When not to use: where source and target differ in their low-level features (photos, then X-rays).

    Args:
        layer_decay: factor from one depth group to the one before it, in (0, 1].
    """

    layer_decay: float = 0.75

    def plan(self, model: MultimodalModel, epochs: int) -> list[Phase]:
        """One phase."""
        groups = list(head_groups(model))
        for name, depth in trained_depth(model, self.policy).items():
            for index, params in enumerate(depth):
                above = 0 if name in self.policy.fresh else len(depth) - 1 - index
                scale = self.policy.scales.get(name, 1.0) * self.layer_decay**above
                groups.append(ParamGroup(f"encoder.{name}.{index}", params, scale))
        return [Phase("finetune", epochs, tuple(groups))]


@dataclass(frozen=True)
class NormAndBias(PolicyStrategy):
    """Trains heads, and of encoders with weights only the normalisation layers and the biases.

    BitFit (Ben Zaken et al., 2022, https://arxiv.org/abs/2106.10199) for biases; Frankle et al. (2021,
    https://arxiv.org/abs/2003.00152) for normalisation. Encoders with random weights train whole.

    When not to use: where the encoder has few of them, or the target is far from the source.
    """

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
