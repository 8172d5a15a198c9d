"""How records of another domain take part in training."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from multimodal.config.section import Section

ALIGNMENTS = ("deep_coral", "mmd", "dann", "cdan")
"""Methods that compare source with target records; the others look at target records alone."""


class Source(Section):
    """Labelled source records in training."""

    weight: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    """How much a source record counts beside a target record; 0: as if there were none. auto: that of 0, 0.003, 0.03,
    0.3 and 1 which answers held-out target records best. Without target labels there is nothing to weigh it against."""
    method: Literal["uniform", "density_ratio", "kmm"] = "uniform"
    """How source records count among themselves: alike, by a domain classifier, or by kernel mean matching."""
    map: Literal["none", "coral", "standardise", "subspace_alignment"] = "none"
    """Moves the frozen features of source records to where target records are, without labels, before they train."""
    components: int | None = Field(default=None, ge=2)
    """subspace_alignment: principal components of each domain that are kept; left out: 20."""

    @property
    def components_kept(self) -> int:
        """Of subspace alignment."""
        return 20 if self.components is None else self.components


class Adapt(Section):
    """A loss beside those of the tasks that needs no target label."""

    method: Literal["deep_coral", "mmd", "dann", "cdan", "mcc", "entropy", "pseudo_labels"]
    """docs/domains.md says which is for what."""
    weight: float = Field(default=1.0, gt=0)
    """Beside a task of weight 1; of dann and cdan it is the strength of the reversed gradient."""
    on: Literal["fused"] | list[str] = "fused"
    """What is compared: the fused vector, or the mean tokens of these inputs, each by itself."""
    threshold: float = Field(default=0.9, gt=0, lt=1)
    """pseudo_labels: least probability of an answer that is taken for a label."""

    hidden_dim: int = Field(default=256, ge=0)
    """dann, cdan: width of the discriminator's two hidden layers; 0: none, a logistic regression."""

    @property
    def compares(self) -> bool:
        """Whether it needs source records, too."""
        return self.method in ALIGNMENTS

    @model_validator(mode="after")
    def _compares_something(self) -> "Adapt":
        if self.on == [] or (self.on != "fused" and not self.compares):
            raise ValueError(
                f"on is {self.on!r} and method {self.method}; name inputs for {', '.join(ALIGNMENTS)}, or leave on out"
            )
        return self
