"""The plan of a job's training: its strategy's phases, with what holds encoders near their source."""

from multimodal.builders import encoders_to_finetune
from multimodal.config import ConfigError, Task
from multimodal.model import MultimodalModel
from multimodal.transfer import Phase, TransferStrategy
from multimodal.transfer.penalties import SourceTokens, SourceWeights, anchored_names, without_decay


def plan_training(task: Task, model: MultimodalModel, strategy: TransferStrategy) -> list[Phase]:
    """Prepares the model for its training, with penalties among its objectives, and gives the phases.

    Args:
        task: with a strategy that is not auto.
        model: with the weights that it starts from.

    Raises:
        ConfigError: if a penalty has nothing to hold.
    """
    transfer = task.transfer
    held = encoders_to_finetune(task, {name: model.encoder(name) for name in model.encoders})
    if transfer.distill:  # before the strategy changes the encoders
        model.objectives["distill"] = SourceTokens({name: model.encoder(name) for name in held}, transfer.distill)
    strategy.prepare(model)
    phases = strategy.plan(model, task.train.epochs)
    anchored = anchored_names(model, held, phases)
    if (transfer.l2_sp or transfer.distill) and not anchored:
        raise ConfigError(
            f"transfer.{'l2_sp' if transfer.l2_sp else 'distill'} holds encoders near their source weights, but none "
            "that comes with weights is fine-tuned; leave it out, or set another transfer.strategy, weights or frozen"
        )
    if not transfer.l2_sp:
        return phases
    weights = dict(model.named_parameters())
    model.objectives["l2_sp"] = SourceWeights({name: weights[name] for name in anchored}, transfer.l2_sp)
    return without_decay(phases, anchored)
