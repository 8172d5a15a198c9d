"""Optimizer and learning rate of one phase."""

import math

import torch
from torch import nn

from multimodal.transfer.plan import OptimizerSpec, Phase


def freeze_all_but(model: nn.Module, phase: Phase) -> None:
    """Marks exactly the phase's parameters as trained."""
    trained = {name for group in phase.groups for name in group.params}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)


def build_optimizer(model: nn.Module, phase: Phase, spec: OptimizerSpec) -> torch.optim.Optimizer:
    """A fresh optimizer over the phase's groups; biases and normalisation weights are not decayed."""
    parameters = dict(model.named_parameters())
    groups = []
    for group in phase.groups:
        decay = spec.weight_decay if group.weight_decay is None else group.weight_decay
        members = [parameters[name] for name in group.params]
        for weight_decay, part in (
            (decay, [p for p in members if p.ndim > 1]),
            (0.0, [p for p in members if p.ndim <= 1]),
        ):
            if part:
                groups.append({"params": part, "weight_decay": weight_decay, "lr_scale": group.lr_scale})
    if spec.name == "sgd":
        return torch.optim.SGD(groups, lr=spec.learning_rate, momentum=spec.momentum)
    return torch.optim.AdamW(groups, lr=spec.learning_rate)


def learning_rate_factor(step: int, total: int, warmup: float) -> float:
    """Linear warm-up over a share of the steps, then a cosine to zero.

    SGDR without restarts (Loshchilov and Hutter, 2017, https://arxiv.org/abs/1608.03983).

    >>> [round(learning_rate_factor(step, 10, 0.2), 3) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.038]
    """
    warm = round(warmup * total)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Sets every group to ``learning_rate`` times its scale."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["lr_scale"]
