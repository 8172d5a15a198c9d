"""Records of another domain in training."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from multimodal.config.section import Section

ALIGNMENTS = ("deep_coral", "mmd", "dann", "cdan")
"""Methods that compare source with target records; the others look at target records alone."""


class Source(Section):
    """Labelled source records in training."""

    weight: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    """Weight of a source record relative to a target record; 0 ignores the source. auto: the one of 0, 0.003, 0.03, 0.3
    and 1 with the best predictions for held-out target records. Without target labels it must stay auto."""
    method: Literal["uniform", "density_ratio", "kmm"] = "uniform"
    """Weights among source records: equal, by a domain classifier, or by kernel mean matching."""
    map: Literal["none", "coral", "standardise", "subspace_alignment"] = "none"
    """Maps frozen features of source records onto those of target records, without labels, before training."""
    components: int | None = Field(default=None, ge=2)
    """subspace_alignment: principal components of each domain that are kept; left out: 20."""

    @property
    def components_kept(self) -> int:
        """Of subspace alignment."""
        return 20 if self.components is None else self.components


class Adapt(Section):
    """Additional loss that needs no target labels."""

    method: Literal["deep_coral", "mmd", "dann", "cdan", "mcc", "entropy", "pseudo_labels"]
    """docs/domains.md compares them."""
    weight: float = Field(default=1.0, gt=0)
    """Relative to a task of weight 1; for dann and cdan, of the reversed gradient."""
    on: Literal["fused"] | list[str] = "fused"
    """Compared features: the fused vector, or the mean tokens of each of these inputs."""
    threshold: float = Field(default=0.9, gt=0, lt=1)
    """pseudo_labels: least probability of a prediction that is taken as a label."""
    hidden_dim: int = Field(default=256, ge=0)
    """dann, cdan: dimension of the discriminator's two hidden layers; 0: none, a logistic regression."""

    @property
    def compares(self) -> bool:
        """True for methods that need source records, too."""
        return self.method in ALIGNMENTS

    @model_validator(mode="after")
    def _compares_something(self) -> "Adapt":
        if self.on == [] or (self.on != "fused" and not self.compares):
            raise ValueError(
                f"on is {self.on!r} and method {self.method}; name inputs for {', '.join(ALIGNMENTS)}, or leave on out"
            )
        return self
