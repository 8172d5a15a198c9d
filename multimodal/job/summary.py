"""Summary of a job, logged before its training begins."""

import logging

from encoders.base import Encoder
from multimodal.config.setting import DESCRIPTIONS
from multimodal.job.setup import TrainingSetup
from multimodal.plugins import can_train

logger = logging.getLogger(__name__)


def log_summary(setup: TrainingSetup) -> None:
    """Logs the numbers of records and the weights of every encoder."""
    tables = setup.tables
    logger.info(f"setting: {tables.setting} ({DESCRIPTIONS[tables.setting]})")
    held_out = " (held out of train)" if tables.held_out is not None else ""
    test = 0 if tables.test is None else len(tables.test)
    beside = {"source": tables.source, "unlabelled": tables.unlabelled}
    counts = "".join(f", {len(table)} {name}" for name, table in beside.items() if table is not None)
    logger.info(f"records: {len(tables.train)} train, {len(tables.valid)} valid{held_out}, {test} test{counts}")
    workers = setup.datasets.workers
    several = f"in {workers} process{'es' * (workers > 1)} beside training"
    decoders = several if workers else "in the training process"
    logger.info(f"decoding: {decoders} (data.workers: {setup.job.data.workers})")
    for name, encoder in setup.encoders.items():
        owner = setup.model.encoder_of[name]
        shared = f", shared with {owner}" if owner != name else ""
        count = sum(parameter.numel() for parameter in encoder.parameters())
        size = f"{count:,} parameters" if can_train(encoder.name) else "frozen, as it has no gradients"
        logger.info(f"{name}: {encoder.name}, weights {describe_weights(encoder)}, {size}{shared}")


def describe_weights(encoder: Encoder) -> str:
    """Origin of an encoder's weights, for people."""
    provenance = encoder.provenance
    digest = f" (sha256 {provenance.sha256[:12]}, licence {provenance.licence})" if provenance.sha256 else ""
    return provenance.weights + digest
