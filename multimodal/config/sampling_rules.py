"""Which task says what records a batch draws, and batches that several processes can share out. Never imports torch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multimodal.config import Job


def grouped_task(job: "Job") -> str | None:
    """The task whose labels are grouped in every batch; None where records come as they are."""
    return next((name for name, task in job.tasks.items() if task.records_per_label is not None), None)


def check_label_groups(job: "Job", processes: int = 1) -> None:
    """Refuses groups by the labels of several tasks, and batches that cannot be shared out without cutting a group.

    Raises:
        ValueError: says what to leave out, or what batch would do.
    """
    name, train = grouped_task(job), job.train
    if name is None:
        return
    others = [
        other
        for other, task in job.tasks.items()
        if other != name and (task.records_per_label is not None or task.imbalance == "balanced_sampler")
    ]
    if others:
        raise ValueError(
            f"tasks {name} and {others[0]} both say which records are drawn (records_per_label, balanced_sampler), and "
            "only one can; leave it out of the other"
        )
    size = job.tasks[name].records_per_label
    assert size is not None
    cuts = processes * train.accumulate
    if train.batch_size % (size * cuts):
        raise ValueError(
            f"train.batch_size is {train.batch_size}, of which {processes} processes with {train.accumulate} parts "
            f"(train.accumulate) each must get whole groups of {size} records (tasks.{name}.records_per_label); set it "
            f"to a multiple of {size * cuts}"
        )
