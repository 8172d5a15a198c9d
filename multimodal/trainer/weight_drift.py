"""Weight drift: distance of the encoders' weights from where training began."""

import logging
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from multimodal.model import MultimodalModel
from multimodal.transfer.plan import Phase, parameter_names, trained_names

logger = logging.getLogger(__name__)

MIN_RELATIVE_DRIFT = 0.005
"""Relative move below which fine-tuning is said to have done next to nothing: SGD at 1e-4 on digits moves .27 % and
gains nothing, at 1e-2 it gains a point (benchmarks/transfer.md, E12)."""


class WeightSnapshot:
    """The encoders' weights before a training, which a resumed run builds anew.

    Args:
        model: with the weights that it starts from.
    """

    def __init__(self, model: MultimodalModel) -> None:
        names = parameter_names(model)
        self.depths = {
            name: [[names[id(parameter)] for parameter in group] for group in model.encoder(name).depth_groups()]
            for name in model.encoders
        }
        """Input -> names of its encoder's parameters, by depth, the input side first."""
        parameters = dict(model.named_parameters())
        listed = {name for depth in self.depths.values() for group in depth for name in group}
        self.weights = {name: parameters[name].detach().cpu().clone() for name in listed}

    def relative_drift(self, model: MultimodalModel) -> dict[str, list[float | None]]:
        """Input -> |dW| / |W| of each depth group of its encoder; None where |W| is 0."""
        now = dict(model.named_parameters())
        return {
            name: [self._relative_move(now, group) for group in depth] for name, depth in self.depths.items() if depth
        }

    def log_small_drift(self, model: MultimodalModel, phases: Iterable[Phase]) -> None:
        """Logs every encoder that was to be fine-tuned and hardly moved."""
        phases = list(phases)
        trained = _changed_names(phases)
        now = dict(model.named_parameters())
        for name, depth in self.depths.items():
            listed = [parameter for group in depth for parameter in group if parameter in trained]
            move = self._relative_move(now, listed) if listed else None
            if move == 0:
                logger.info(
                    f"{name}: the weights that were kept are those from before its encoder was fine-tuned, which were "
                    "the best on the validation table"
                )
            elif move is not None and move < MIN_RELATIVE_DRIFT:
                logger.warning(
                    f"{name}: fine-tuning moved the weights by {move:.2%} of their size, next to nothing; "
                    f"raise {_what_to_raise(phases)}, or save the time with transfer.strategy linear_probe"
                )

    def _relative_move(self, now: Mapping[str, Tensor], names: Iterable[str]) -> float | None:
        names = list(names)
        if all(torch.equal(now[name].detach().cpu(), self.weights[name]) for name in names):
            return 0.0 if any(bool(self.weights[name].any()) for name in names) else None
        before = [self.weights[name].double() for name in names]
        after = [now[name].detach().cpu().double() for name in names]
        size = _norm(before)
        return _norm([new - old for new, old in zip(after, before, strict=True)]) / size if size else None


def _changed_names(phases: Iterable[Phase]) -> set[str]:
    """Parameters that some phase changes; of low-rank parts the matrix that they are merged into at the end."""
    trained = trained_names(phases)
    return trained | {f"{name.partition('.lora_')[0]}.weight" for name in trained if ".lora_" in name}


def _norm(tensors: Iterable[Tensor]) -> float:
    return sum(float(tensor.square().sum()) for tensor in tensors) ** 0.5


def _what_to_raise(phases: Iterable[Phase]) -> str:
    own_rate = any(phase.optimizer is not None for phase in phases)
    rate = "transfer.two_phase.learning_rate" if own_rate else "train.learning_rate or transfer.encoder_scale"
    return f"{rate}, or train.epochs"
