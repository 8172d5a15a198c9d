"""Parts that say what trains when: the strategy, its plan, objectives and optimizer of a job."""

from collections.abc import Mapping
from typing import Any

import torch

from encoders import find_encoder
from encoders.base import Encoder
from multimodal.builders.encoders import has_random_weights
from multimodal.config import ConfigError, Input, Job, errors_of
from multimodal.config.section import Section
from multimodal.model import MultimodalModel
from multimodal.model.objective import Objective
from multimodal.model.zero_shot import PullToNames, zero_shot_heads
from multimodal.plugins import STRATEGIES, TRACKERS, strategy_info
from multimodal.runtime.runtime import choose_precision
from multimodal.trainer.history import Tracker
from multimodal.trainer.state import TrainerOptions
from multimodal.trainer.weighting import TASK_WEIGHT, LearnedTaskWeights
from multimodal.transfer.penalties import SourceTokenPenalty, SourceWeightPenalty, anchored_names, without_decay
from multimodal.transfer.plan import EncoderPolicy, OptimizerSpec, Phase, TransferStrategy


def build_strategy(job: Job, model: MultimodalModel) -> TransferStrategy:
    """The strategy, with each encoder's own settings.

    Raises:
        ConfigError: if it is still to be chosen, or refuses its options.
        ImportError: if that of another distribution cannot be imported.
    """
    if job.transfer.strategy == "auto":
        raise ConfigError(
            "transfer.strategy is auto, which depends on the training records; take what choose_transfer gives for "
            "them, or name a strategy"
        )
    strategy = job.transfer.strategy
    with errors_of(f"transfer: the strategy {strategy!r} cannot be built: ", (TypeError, ValueError)):
        return STRATEGIES.load(strategy)(_encoder_policy(job, model), **_strategy_options(job, model))


def build_trackers(job: Job) -> list[Tracker]:
    """The observers of a training.

    Raises:
        ConfigError: if one refuses its options.
        ImportError: if that of another distribution cannot be imported.
    """
    trackers = []
    for entry in job.train.trackers:
        with errors_of(f"train.trackers: {entry.name!r} cannot be built: ", (TypeError, ValueError)):
            trackers.append(TRACKERS.load(entry.name)(**entry.options))
    return trackers


def _strategy_options(job: Job, model: MultimodalModel) -> dict[str, Any]:
    """The settings that this strategy alone reads; those of a section one by one."""
    options: dict[str, Any] = dict(job.transfer.options)
    for key in strategy_info(job.transfer.strategy).settings:
        value = getattr(job.transfer, key)
        options |= dict(value) if isinstance(value, Section) else {key: value}
    if "targets" in options:
        options["targets"] = _as_kept(job, model, options["targets"])
    return options


def _as_kept(job: Job, model: MultimodalModel, targets: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """What is named for each encoder's owner, under the first input that uses it, as the model keeps encoders."""
    owners = {name: job.encoder_input(name) for name in model.encoders}
    return {name: targets[owner] for name, owner in owners.items() if owner in targets}


def _encoder_policy(job: Job, model: MultimodalModel) -> EncoderPolicy:
    """What fine-tuning does to each encoder that the model keeps."""
    kept = {name: job.owner(name) for name in model.encoders}  # under the first input that uses them
    return EncoderPolicy(
        scales={name: _learning_rate_scale(job, entry, model.encoder(name)) for name, entry in kept.items()},
        frozen=frozenset(name for name, entry in kept.items() if entry.frozen),
        fresh=frozenset(name for name in kept if has_random_weights(model.encoder(name))),
        unfreeze_from=job.transfer.unfreeze_from,
    )


def encoders_to_finetune(job: Job, encoders: Mapping[str, Encoder]) -> list[str]:
    """Inputs among these whose encoder comes with weights and is not to stay frozen."""
    return [
        name for name, encoder in encoders.items() if not job.owner(name).frozen and not has_random_weights(encoder)
    ]


def _learning_rate_scale(job: Job, entry: Input, encoder: Encoder) -> float:
    if entry.learning_rate_scale is not None:
        return entry.learning_rate_scale
    if has_random_weights(encoder):
        return 1.0
    own = job.transfer.encoder_scale
    if own is None and job.transfer.strategy == "two_phase":
        return 1.0  # its learning rate is small for the sake of the encoders
    return find_encoder(encoder.name).learning_rate_scale if own is None else own


def build_objectives(job: Job, model: MultimodalModel) -> dict[str, Objective]:
    """Name -> loss beside those of the tasks, while training."""
    objectives: dict[str, Objective] = {}
    if job.train.task_weighting == "uncertainty":
        objectives[TASK_WEIGHT] = LearnedTaskWeights({name: task.weight for name, task in job.tasks.items()})
    for name, head in zero_shot_heads(model).items():
        if strength := job.tasks[name].zero_shot.pull:
            objectives[f"pull_{name}"] = PullToNames(name, head, strength)
    return objectives


def build_trainer_options(job: Job, device: torch.device) -> TrainerOptions:
    """Options of the training loop on a device.

    Raises:
        ValueError: if the device has no such precision.
    """
    train = job.train
    return TrainerOptions(
        # of phases that name none
        OptimizerSpec(train.optimizer, train.learning_rate, train.weight_decay, train.momentum, train.warmup),
        task_weights={name: task.weight for name, task in job.tasks.items()},
        clip_norm=train.clip_norm,
        precision=choose_precision(train.precision, device),
        seed=train.seed,
        patience=train.patience,
        checkpoint_steps=train.checkpoint_steps,
        on_error=job.data.on_error,
        project_conflicts=train.task_weighting == "pcgrad",
        gradient_cosine=train.gradient_cosine,
    )


def plan_training(job: Job, model: MultimodalModel, strategy: TransferStrategy) -> list[Phase]:
    """Prepares the model for its training, with penalties among its objectives, and gives the phases.

    Args:
        job: with a strategy that is not auto.
        model: with the weights that it starts from.

    Raises:
        ConfigError: if a penalty has nothing to hold.
    """
    transfer = job.transfer
    held = encoders_to_finetune(job, {name: model.encoder(name) for name in model.encoders})
    if transfer.distill:  # before the strategy changes the encoders
        model.objectives["distill"] = SourceTokenPenalty({name: model.encoder(name) for name in held}, transfer.distill)
    strategy.prepare(model)
    phases = strategy.plan(model, job.train.epochs)
    anchored = anchored_names(model, held, phases)
    if (transfer.l2_sp or transfer.distill) and not anchored:
        raise ConfigError(
            f"transfer.{'l2_sp' if transfer.l2_sp else 'distill'} holds encoders near their source weights, but none "
            "that comes with weights is fine-tuned; leave it out, or set another transfer.strategy, weights or frozen"
        )
    if not transfer.l2_sp:
        return phases
    weights = dict(model.named_parameters())
    model.objectives["l2_sp"] = SourceWeightPenalty({name: weights[name] for name in anchored}, transfer.l2_sp)
    return without_decay(phases, anchored)
