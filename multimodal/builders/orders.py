"""Order in which a job's training reads its records."""

from collections.abc import Sequence

import numpy as np

from multimodal.builders.heads import label_cells, sampling_weights
from multimodal.config import ConfigError, Job
from multimodal.config.rules import grouped_task
from multimodal.data.domains import domain_order
from multimodal.data.order import LabelOrder, Order, StepOrder
from multimodal.records import Records, class_label, is_missing
from multimodal.splits.tables import Tables


def build_order(job: Job, tables: Tables) -> StepOrder:
    """Rows of each step: of groups of labels, of several tables side by side, or as they come.

    Raises:
        ConfigError: if the tables do not suit the job.
        RecordError: for a label that cannot be used, with ``data.on_error: raise``.
    """
    train = job.train
    grouped = build_label_order(job, [records for _, records in tables.training()])
    if grouped is not None:
        return grouped
    labelled = [(len(records), sampling_weights(job, records)) for records in tables.labelled()]
    if len(labelled) == 1 and tables.unlabelled is None:
        return Order(labelled[0][0], train.batch_size, train.seed, labelled[0][1])
    unlabelled = None if tables.unlabelled is None else len(tables.unlabelled)
    return domain_order(labelled, unlabelled, batch_size=train.batch_size, seed=train.seed)


def build_label_order(job: Job, tables: Sequence[Records]) -> LabelOrder | None:
    """Steps with groups of one label; None where no task wants them.

    Args:
        tables: all that train.

    Raises:
        ConfigError: if there are several.
        RecordError: for a label that cannot be used, with ``data.on_error: raise``.
    """
    name = grouped_task(job)
    if name is None:
        return None
    if len(tables) > 1:
        raise ConfigError(
            f"tasks.{name}.records_per_label groups the records of one table, and {len(tables)} train (data.source, "
            "data.unlabelled); leave it out, or the other tables"
        )
    (records,), task = tables, job.tasks[name]
    cells = label_cells(name, task, job.label_columns()[name], records, job.data.on_error)
    labels = [None if is_missing(cell) else class_label(cell) for cell in cells]
    numbers = {label: number for number, label in enumerate(sorted({label for label in labels if label is not None}))}
    assert task.records_per_label is not None
    return LabelOrder(
        np.array([-1 if label is None else numbers[label] for label in labels]),
        job.train.batch_size,
        job.train.seed,
        task.records_per_label,
    )
