"""An exponential moving average of the weights over the steps of a training."""

import torch
from torch import Tensor, nn


class ExponentialAverage:
    """Keeps average = decay * average + (1 - decay) * weights; counters and running statistics are the model's own.

    Polyak and Juditsky (1992); as a moving average: Tarvainen and Valpola (2017, https://arxiv.org/abs/1703.01780).

    When not to use: with trainings of fewer steps than some 1 / (1 - decay).

    Args:
        model: whose weights it starts from.
        decay: at most; in the first steps (1 + step) / (10 + step), so that random weights are soon forgotten.

    Raises:
        ValueError: if the decay is not in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay is {decay}; give 0 (no average) to below 1, for example 0.999")
        self.decay, self.step = decay, 0
        self.state: dict[str, Tensor] = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes in the weights after one step."""
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        self.step += 1
        learned = {name for name, _ in model.named_parameters()}
        for name, tensor in model.state_dict().items():
            if name in learned and tensor.is_floating_point():
                self.state[name].lerp_(tensor.to(self.state[name]), 1.0 - decay)
            else:
                self.state[name].copy_(tensor)
