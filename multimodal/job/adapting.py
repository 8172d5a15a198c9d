"""The loss between domains of a job, which is put into its model before training."""

import logging

from multimodal.job.setup import TrainingSetup
from multimodal.records.targets import class_readers
from multimodal.transfer.adaptation.objectives import create_adaptation

logger = logging.getLogger(__name__)

OBJECTIVE = "adapt"
FEW_PER_CLASS = 2
"""MCC: with fewer unlabelled records per class it drives right predictions to classes that the batch has none of."""


def add_adaptation(setup: TrainingSetup, world: int) -> None:
    """Puts the objective of ``transfer.adapt`` into the model, where there are records to adapt to.

    Args:
        world: processes that share a batch.
    """
    adapt = setup.job.transfer.adapt
    if adapt is None or setup.tables.unlabelled is None:
        return
    model = setup.model
    classes = {name: len(reader.labels) for name, reader in class_readers(setup.datasets.targets).items()}
    names = [None] if adapt.on == "fused" else adapt.on
    dims = {name: model.fusion.out_dim if name is None else model.fusion.in_dims[name] for name in names}
    objective = create_adaptation(
        adapt.method,
        dims,
        classes,
        weight=adapt.weight,
        threshold=adapt.threshold,
        hidden_dim=adapt.hidden_dim,
        seed=setup.job.train.seed,
    )
    model.objectives[OBJECTIVE] = objective.to(next(model.parameters()).device)
    records = setup.job.train.batch_size // (world * setup.job.train.accumulate)
    most = max(classes.values(), default=0)
    if adapt.method == "mcc" and records < FEW_PER_CLASS * most:
        logger.warning(
            f"mcc compares {records} records of {most} classes at a time; with fewer than two per class it "
            "confuses right predictions: raise train.batch_size, or take another transfer.adapt.method"
        )
