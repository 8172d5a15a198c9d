"""The job's tables."""

from typing import Annotated, Literal

from pydantic import Field

from multimodal.config.section import Section


class Data(Section):
    """Where the records are. Paths are relative to the config; media paths inside are relative to the manifest."""

    train: str | None = None
    """CSV, JSON Lines or Parquet."""
    valid: str | None = None
    """Chooses the best checkpoint; without it a tenth of train, drawn with the seed so that it defines the metric that
    chooses, is held out."""
    test: str | None = None
    """Evaluated once, after training."""
    source: str | None = None
    """Labelled records of another domain, for transfer.source and transfer.adapt."""
    source_valid: str | None = None
    """Chooses the best checkpoint where there are no target labels (no train); without it a tenth of source does."""
    unlabelled: str | None = None
    """Target inputs without answers, for transfer.adapt and density ratios; label columns in it are never read."""
    group: str | None = None
    """Column that says which records belong together (one product, one photo session): neither the rows that are held
    out of train nor folds split a group. A record whose cell is missing is a group of its own."""
    on_error: Literal["raise", "skip"] = "raise"
    """What an unreadable cell does in training: stop, naming it, or leave the record out, counted and listed."""
    allow_outside: bool = False
    """Whether cells may name media outside their manifest's folder (``..``, absolute paths); links are followed."""
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Processes that decode beside training; 0 decodes in the training process."""

    @property
    def outside(self) -> bool | Literal["links"]:
        """Which media of the job's tables may lie outside their folders."""
        return self.allow_outside or "links"
