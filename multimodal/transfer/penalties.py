"""Penalties that keep encoders near their source: on weights (L2-SP), on tokens (distillation)."""

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from encoders.base import Encoder
from multimodal.model import MultimodalModel
from multimodal.model.objective import Objective, StepContext
from multimodal.transfer.plan import Phase, trained_names


def l2_sp_penalty(
    parameters: Mapping[str, Tensor], anchors: Mapping[str, Tensor], *, alpha: float = 0.01, beta: float = 0.01
) -> Float[Tensor, ""]:
    """alpha/2 |w - w0|^2 over the anchored parameters + beta/2 |w|^2 over the others; at the start its gradient is 0
    for what is anchored.

    Li, Grandvalet and Davoine (2018, https://arxiv.org/abs/1802.01483), equation 3.

    When not to use: beside an optimizer's weight decay on the same parameters, which pulls the other way (set it to
    0); for targets unlike the source, where it holds back what must change.

    Args:
        parameters: name -> parameter that trains.
        anchors: name -> where it started, without gradient.
        alpha, beta: of the anchored and of the new parameters.

    Raises:
        ValueError: if an anchor has no parameter, or another shape.
    """
    strange = [
        name for name, tensor in anchors.items() if name not in parameters or parameters[name].shape != tensor.shape
    ]
    if strange or not parameters:
        raise ValueError(
            f"of {len(parameters)} parameters none fits the anchors {strange[:3]}; take anchors of the same "
            "parameters before the training, {name: p.detach().clone() for ...}"
        )
    terms = [
        beta / 2 * parameter.square().sum()
        if name not in anchors
        else alpha / 2 * (parameter - anchors[name].detach()).square().sum()
        for name, parameter in parameters.items()
    ]
    return torch.stack(terms).sum()


def feature_distillation(
    tokens: Float[Tensor, "b l d"],
    source_tokens: Float[Tensor, "b l d"],
    mask: Bool[Tensor, "b l"],
) -> Float[Tensor, ""]:
    """Half the squared distance of a record's real tokens, mean over tokens and records; padding changes nothing.

    DELTA (Li et al., 2019, https://arxiv.org/abs/1901.09229), equation 4, on tokens instead of feature maps. Pooled
    features are tokens with l = 1. A record without the input takes no part.

    When not to use: for targets unlike the source; where a second pass through the source encoder costs too much
    (``l2_sp_penalty`` needs none).

    Args:
        tokens: of the encoder that trains.
        source_tokens: of the source encoder for the same inputs; detached here.
        mask: True for a real token.

    Raises:
        ValueError: if the tokens differ in shape.
    """
    if tokens.shape != source_tokens.shape or mask.shape != tokens.shape[:2]:
        raise ValueError(
            f"tokens are {list(tokens.shape)}, the source's {list(source_tokens.shape)}, the mask {list(mask.shape)}; "
            "encode the same batch with both encoders"
        )
    distances = (tokens - source_tokens.detach()).square().sum(dim=2) / 2  # [b l]
    lengths = mask.sum(dim=1)
    per_record = (distances * mask).sum(dim=1) / lengths.clamp_min(1)
    return per_record.sum() / (lengths > 0).sum().clamp_min(1)


class SourceWeightPenalty(Objective):
    """L2-SP: half of alpha times the squared distance of what trains from where it started.

    Li, Grandvalet and Davoine (2018, https://arxiv.org/abs/1802.01483). New parameters keep the optimizer's weight
    decay; ``without_decay`` takes it off the others, which it would pull to zero.

    When not to use: for targets unlike the source, where it holds back what must change.

    Args:
        anchors: name of a parameter -> its source weights.
        alpha: 0.001 to 1.
    """

    def __init__(self, anchors: Mapping[str, Tensor], alpha: float) -> None:
        super().__init__()
        self.alpha, self.names = alpha, tuple(anchors)
        for index, name in enumerate(self.names):  # names have dots, which a buffer's may not
            self.register_buffer(f"anchor_{index}", anchors[name].detach().clone(), persistent=False)

    def forward(self, seen: StepContext) -> Float[Tensor, ""]:
        """The penalty on what this phase trains."""
        parameters, anchors = dict(seen.model.named_parameters()), dict(zip(self.names, self.buffers(), strict=True))
        trained = {name: parameters[name] for name in self.names if parameters[name].requires_grad}
        if not trained:
            return seen.output.fused.new_zeros(())
        return l2_sp_penalty(trained, {name: anchors[name] for name in trained}, alpha=self.alpha)


class SourceTokenPenalty(Objective):
    """Feature distillation: tokens stay near those of the encoder as it was, on the same augmented values.

    DELTA (Li et al., 2019, https://arxiv.org/abs/1901.09229) without its attention over channels. Ours differs: the
    distance is relative to the size of the source's tokens, so that one weight suits encoders of any scale; mean over
    encoders.

    When not to use: for targets unlike the source; where a second pass through the encoders costs too much
    (``SourceWeightPenalty`` needs none); where BatchNorm layers train on small batches, whose statistics then
    make most of the distance.

    Args:
        teachers: input -> its encoder as it was; copied here and frozen.
        weight: of the loss.
    """

    def __init__(self, teachers: Mapping[str, Encoder], weight: float) -> None:
        super().__init__()
        self.weight = weight
        # out of torch's sight: a teacher is neither trained nor saved, and no train() turns its dropout on
        self._teachers = {
            name: copy.deepcopy(teacher).eval().requires_grad_(False) for name, teacher in teachers.items()
        }

    def forward(self, seen: StepContext) -> Float[Tensor, ""]:
        """The distance, mean over the inputs whose encoders train in this phase."""
        losses = [
            self._distance(seen, name, self._teachers[owner])
            for name, owner in seen.model.encoder_of.items()
            if owner in self._teachers and any(p.requires_grad for p in seen.model.encoder(name).parameters())
        ]
        return self.weight * torch.stack(losses).mean() if losses else seen.output.fused.new_zeros(())

    def _distance(self, seen: StepContext, name: str, teacher: Encoder) -> Float[Tensor, ""]:
        arrays = {key: tensor for key, tensor in seen.batch.inputs[name].items() if key != "present"}
        with torch.no_grad():
            source, _ = teacher(arrays)
        tokens, mask = seen.output.tokens[name].float(), seen.output.masks[name]
        source = source.float()
        size = feature_distillation(torch.zeros_like(source), source, mask)
        return feature_distillation(tokens, source, mask) / size.clamp_min(torch.finfo(size.dtype).tiny)


def anchored_names(model: MultimodalModel, inputs: Collection[str], phases: Iterable[Phase]) -> list[str]:
    """Parameters of the encoders of these inputs that some phase trains."""
    trained = trained_names(phases)
    own = {id(parameter) for name in inputs for parameter in model.encoder(name).parameters()}
    return [name for name, parameter in model.named_parameters() if id(parameter) in own and name in trained]


def without_decay(phases: Sequence[Phase], names: Collection[str]) -> list[Phase]:
    """The plan with no weight decay on these parameters."""
    held = set(names)
    return [
        replace(
            phase,
            groups=tuple(
                replace(group, weight_decay=0.0) if held.issuperset(group.params) else group for group in phase.groups
            ),
        )
        for phase in phases
    ]
