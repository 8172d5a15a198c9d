"""Strategy that ``transfer.strategy: auto`` means: a rule over the records of a class, and of what the weights are."""

from collections.abc import Mapping
from statistics import median
from typing import Any, NamedTuple

from encoders import find_encoder
from encoders.base import Encoder
from multimodal.builders.heads import label_cells
from multimodal.builders.training import encoders_to_finetune
from multimodal.config import Job, Transfer
from multimodal.records import Records
from multimodal.records.targets import class_counts


class TransferChoice(NamedTuple):
    """Use that a job makes of weights, and why."""

    transfer: Transfer
    """With a strategy that is not auto."""
    rule: str | None
    """None where the config names the strategy."""

    def __str__(self) -> str:
        """For people: strategy, depth, rule."""
        start = self.transfer.unfreeze_from
        if self.transfer.strategy == "partial" and start is None:
            start = -1
        depth = f" from {_depth(start)}" if start and self.transfer.strategy != "linear_probe" else ""
        return f"{self.transfer.strategy}{depth}" + ("" if self.rule is None else f" (rule: {self.rule})")

    def to_json(self) -> dict[str, Any]:
        """Description stored beside the weights."""
        return {
            "strategy": self.transfer.strategy,
            "unfreeze_from": self.transfer.unfreeze_from,
            "rule": self.rule,
        }


def _depth(start: int) -> str:
    if start >= 0:
        return f"depth group {start}"
    return "the last depth group" if start == -1 else f"the last {-start} depth groups"


def choose_transfer(job: Job, encoders: Mapping[str, Encoder], records: Records) -> TransferChoice:
    """The strategy that the config names, or that the rule for few labels gives.

    The fewer records per class, the less of an encoder is changed. Nothing is frozen blindly: fine-tuning follows a
    probe, and the validation table decides which of both is kept. On digits that costs at most .02 over a probe where
    the source is good, and saves .05 to .2 where it harms (benchmarks/transfer.md, E15). What small encoders know
    (``compact/*``) is little and has to move: they are fine-tuned whole, however few the labels.

    When not to use: where you have compared strategies on the validation table; name the best.

    Args:
        encoders: input -> encoder.
        records: of the training.

    Raises:
        RecordError: for a training label that cannot be used, with ``data.on_error: raise``.
    """
    if job.transfer.strategy != "auto":
        return TransferChoice(job.transfer, None)
    strategy, start, rule = _rule(job, encoders, records)
    given = job.transfer.unfreeze_from
    chosen = {"strategy": strategy, "unfreeze_from": start if given is None else given}
    return TransferChoice(job.transfer.model_copy(update=chosen), rule)


def _rule(job: Job, encoders: Mapping[str, Encoder], records: Records) -> tuple[str, int | None, str]:
    """Strategy, first depth group, and the rule that gave them."""
    held = encoders_to_finetune(job, encoders)
    if not held:
        return "finetune", None, "no encoder that may train comes with weights"
    small = [name for name in held if find_encoder(encoders[name].name).learning_rate_scale >= 1]
    if small:
        return "finetune", None, f"the weights of {encoders[small[0]].name} know little and have to move"
    counted = records_per_class(job, records)
    if not counted:
        return "finetune", None, "no task has classes to count records of"
    count, name = min((count, name) for name, count in counted.items())
    here = f"per class; half of the classes of {name} have at most {count:g}"
    if count <= 20:
        return "probe_then_finetune", -1, f"at most 20 records {here}"
    if count <= 100:
        return "probe_then_finetune", -2, f"20 to 100 records {here}"
    return "probe_then_finetune", None, f"more than 100 records {here}"


def records_per_class(job: Job, records: Records) -> dict[str, float]:
    """Classification task -> median number of labelled records of its classes."""
    columns = job.label_columns()
    cells = {
        name: label_cells(name, task, columns[name], records, job.data.on_error)
        for name, task in job.tasks.items()
        if task.kind.is_classification
    }
    return {name: float(median(class_counts(values).values())) for name, values in cells.items()}
