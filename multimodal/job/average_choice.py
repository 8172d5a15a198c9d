"""Choice between the best weights and an average of weights, on the validation table."""

import logging
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from multimodal.config import ConfigError
from multimodal.data.dataset import StepLoader
from multimodal.job.setup import TrainingSetup
from multimodal.model import MultimodalModel
from multimodal.model.modes import batch_norms
from multimodal.runtime.distributed import Processes
from multimodal.trainer.weight_averaging import Ema, WeightAveraging
from multimodal.transfer.averaging import AveragedState
from multimodal.transfer.plan import Phase, trained_names

logger = logging.getLogger(__name__)


def keep_the_better(setup: TrainingSetup, averaging: WeightAveraging, plain: float) -> tuple[float, dict[str, Any]]:
    """Leaves the better of the model's weights and their average in the model; of equal ones the former.

    Args:
        setup: with the best weights of its training.
        plain: their score on the validation table.

    Returns:
        The score of what was kept; and what was compared, JSON.
    """
    before = {name: tensor.detach().clone() for name, tensor in setup.model.state_dict().items()}
    found = averaging.best(lambda averaged: _score(setup, averaged))
    better = found.score > plain
    if better:
        _score(setup, found.average)  # once more: it fits running statistics and expert weights, which are kept
    else:
        setup.model.load_state_dict(before)
    method, kept = setup.job.transfer.average, found.name if better else "plain"
    logger.info(
        f"average: {method} ({found.name}) {found.score:.4g}, without it {plain:.4g} on the validation table: {kept}"
    )
    compared = {"method": method, "best": found.name, "score": found.score, "plain": plain, "tried": found.tried}
    return max(found.score, plain), {**compared, "kept": kept}


def reject_unshared_statistics(
    averaging: WeightAveraging, model: nn.Module, phases: Collection[Phase], group: Processes
) -> None:
    """Refuses what would need BatchNorm statistics of all processes after the training.

    Raises:
        ConfigError: if there are several processes, and averaged weights need other running statistics.
    """
    trained = trained_names(phases)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    norms = [norm for norm in batch_norms(model) if any(names[id(p)] in trained for p in norm.parameters())]
    if group.world > 1 and norms and not isinstance(averaging, Ema):
        raise ConfigError(
            f"transfer.average would estimate the statistics of {len(norms)} BatchNorm layers again, which it does in "
            f"one process, and there are {group.world}; train in one, or set transfer.average: ema"
        )


def _score(setup: TrainingSetup, averaged: AveragedState) -> float:
    """Puts the weights into the model, with running statistics of their own, and scores them."""
    setup.model.load_state_dict(averaged.state)
    if averaged.re_estimate:
        _estimate_statistics(setup.model, setup.loader, {name.rpartition(".")[0] for name in averaged.re_estimate})
    setup.model.eval()
    return setup.validator()[1]


@torch.no_grad()
def _estimate_statistics(model: MultimodalModel, loader: StepLoader, names: Collection[str]) -> None:
    """Running statistics of these BatchNorm layers: the plain mean over the batches of the first epoch."""
    device = next(model.parameters()).device
    norms = [module for name, module in model.named_modules() if name in names]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    model.training = True  # so that blanks are not encoded; dropout stays off
    for norm in norms:
        norm.train().reset_running_stats()
        norm.momentum = None
    for parts in replace(loader, accumulate=1).steps(0, loader.order.steps_per_epoch):
        for batch in parts:
            model.encode(batch.to(device).inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
