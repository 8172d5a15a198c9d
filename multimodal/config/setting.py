"""Transfer setting of a job's tables, and rules over them. Never imports torch."""

from collections.abc import Collection, Iterator
from typing import Literal

from multimodal.config import ConfigError, Job, Source

Setting = Literal["inductive", "transductive", "unsupervised"]

DESCRIPTIONS: dict[Setting, str] = {
    "inductive": "target labels",
    "transductive": "source labels and target inputs; source records choose the checkpoint",
    "unsupervised": "no labels at all",
}
TARGET, SOURCE, UNLABELLED = 0, 1, 2
"""Origin of a training record: the target's labelled table, the source's, target inputs without labels."""
TABLES = ("train", "valid", "test", "source", "source_valid", "unlabelled")


def setting_of(job: Job, given: Collection[str]) -> Setting:
    """The setting (Pan and Yang, 2010, https://doi.org/10.1109/TKDE.2009.191) of a job with these tables.

    Args:
        given: of ``TABLES``, those that there are.

    Raises:
        ConfigError: for the first table that no chosen method reads, or that one needs and that there is not.
    """
    for problem in table_problems(job, given):
        raise ConfigError(problem)
    if is_transductive(given):
        return "transductive"
    return "inductive" if any(task.kind.has_column for task in job.tasks.values()) else "unsupervised"


def is_transductive(given: Collection[str]) -> bool:
    """True where the source alone has labels."""
    return "source" in given and "train" not in given


def learned_tables(*, transductive: bool) -> tuple[str, str]:
    """Names of the table that a job learns from, and of the one that chooses its best weights."""
    return ("source", "source_valid") if transductive else ("train", "valid")


def table_problems(job: Job, given: Collection[str]) -> Iterator[str]:
    """Tables and methods that do not fit together."""
    source, adapt = job.transfer.source, job.transfer.adapt
    yield from (_transductive_problems if is_transductive(given) else _inductive_problems)(job, given)
    weights_by_inputs = source is not None and source.method != "uniform" and "train" not in given
    reads_inputs = adapt is not None or _maps(source) or weights_by_inputs
    if "unlabelled" in given and not reads_inputs:
        yield (
            "data.unlabelled is read by transfer.adapt, transfer.source.map, and without data.train by "
            "transfer.source.method density_ratio and kmm, of which none is set; set one, or leave the table out"
        )
    if adapt is not None and "unlabelled" not in given:
        yield f"transfer.adapt: {adapt.method} needs target inputs; name their table in data.unlabelled"
    if adapt is not None and adapt.compares and "source" not in given:
        yield f"transfer.adapt: {adapt.method} compares source with target records; name a table in data.source"
    classified = [name for name, task in job.tasks.items() if task.kind.is_classification]
    if adapt is not None and adapt.method in ("cdan", "mcc", "entropy", "pseudo_labels") and not classified:
        yield f"transfer.adapt: {adapt.method} needs predicted classes, and no task is a classification"


def _inductive_problems(job: Job, given: Collection[str]) -> Iterator[str]:
    if "source_valid" in given:
        yield "data.source_valid chooses where there are no target labels, and data.train has some; leave it out"
    if "source" in given and job.transfer.source is None:
        yield (
            "data.source is read by transfer.source, which is not set; write `transfer: {source: {weight: auto}}`, or "
            "leave the table out"
        )
    if job.transfer.source is not None and "source" not in given:
        yield "transfer.source weights source records, and there are none; name their table in data.source"


def _transductive_problems(job: Job, given: Collection[str]) -> Iterator[str]:
    if "unlabelled" not in given:
        yield (
            "data.source without data.train needs the target inputs; name them in data.unlabelled, or to train on the "
            "source alone name it in data.train"
        )
    if "valid" in given:
        yield (
            "data.valid holds target labels, and without data.train there should be none: name source records in "
            "data.source_valid, or leave it out"
        )
    if job.transfer.source is not None and job.transfer.source.weight != "auto":
        yield (
            "transfer.source.weight is beside a target record, and without data.train there is none with a label; "
            "leave it out"
        )
    adapts = job.transfer.adapt is not None or _maps(job.transfer.source)
    if job.transfer.source is not None and job.transfer.source.method == "uniform" and not adapts:
        yield (
            "transfer.source.method is uniform, which changes nothing without data.train; set density_ratio or kmm, "
            "or transfer.source.map"
        )


def _maps(source: Source | None) -> bool:
    return source is not None and source.map != "none"
