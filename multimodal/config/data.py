"""The job's tables."""

from typing import Annotated, Literal

from pydantic import Field

from multimodal.config.section import Section


class Data(Section):
    """Tables of records. Paths are relative to the config, media paths in a table to the table."""

    train: str | None = None
    """CSV, TSV, JSON Lines or Parquet."""
    valid: str | None = None
    """Chooses the best checkpoint; without it a tenth of train is held out, drawn by the seed such that it defines the
    metric."""
    test: str | None = None
    """Evaluated once, after training."""
    source: str | None = None
    """Labelled records of another domain, for transfer.source and transfer.adapt."""
    source_valid: str | None = None
    """Chooses the best checkpoint where there are no target labels (no train); without it a tenth of source does."""
    unlabelled: str | None = None
    """Target inputs without labels, for transfer.adapt and density ratios; its label columns are never read."""
    group: str | None = None
    """Column of groups (one product, one photo session), which neither held-out rows nor folds split. A record whose
    cell is missing is a group of its own."""
    on_error: Literal["raise", "skip"] = "raise"
    """Treatment of an unreadable cell in training: stop and name it, or skip the record, counted and listed."""
    allow_outside: bool = False
    """Permits media outside their manifest's folder (``..``, absolute paths); links are followed."""
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Processes that decode beside training; 0 decodes in the training process."""

    @property
    def outside(self) -> bool | Literal["links"]:
        """Media of the job's tables that may lie outside their folders."""
        return self.allow_outside or "links"
