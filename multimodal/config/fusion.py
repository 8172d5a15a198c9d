"""Fusion of the inputs."""

from typing import Annotated, Any

from pydantic import Field, JsonValue, field_validator

from fusion.registry import FUSIONS
from multimodal.config.section import Section, registered


class Fusion(Section):
    """Fusion of the inputs' tokens into one vector."""

    name: Annotated[str, registered(FUSIONS)] = "attention"
    """concat, attention, gated, late, or a registered one of your own. late: a head per input, trained by itself;
    outputs are added with expert weights, fitted on validation data."""
    dim: int | None = Field(default=None, gt=0)
    """Dimension of the fused vector; null is the fusion's own default (concat: the plain concatenation)."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    num_queries: int | None = Field(default=None, gt=0)
    """Attention: number of learned queries."""
    num_heads: int | None = Field(default=None, gt=0)
    """Attention: must divide dim."""
    modality_dropout: float | dict[str, float] = 0.0
    """Probability of hiding each input of a record in training, or input: its own; never all of them."""
    unimodal_weight: float = Field(default=0.0, ge=0)
    """Weight of auxiliary heads that see one input each, relative to their task; 0: none. They keep an encoder learning
    beside a stronger one, and are not exported."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Arguments of a registered fusion of your own."""

    @field_validator("modality_dropout")
    @classmethod
    def _shares(cls, value: float | dict[str, float]) -> float | dict[str, float]:
        for share in value.values() if isinstance(value, dict) else [value]:
            if not 0 <= share < 1:
                raise ValueError(f"{share:g} is not a probability below 1; give one from 0 to 0.99")
        return value

    def arguments(self) -> dict[str, Any]:
        """Arguments for ``create_fusion`` that were given."""
        given = {"dropout": self.dropout, "num_queries": self.num_queries, "num_heads": self.num_heads}
        return {key: value for key, value in given.items() if value is not None} | self.options
