"""Fusion of the inputs."""

from typing import Any, Literal

from pydantic import Field, field_validator

from multimodal.config.section import Section


class Fusion(Section):
    """Fusion of the inputs' tokens into one vector."""

    name: Literal["concat", "attention", "gated", "late"] = "attention"
    """late: a head per input, trained by itself; outputs are added with expert weights, fitted on validation data."""
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

    @field_validator("modality_dropout")
    @classmethod
    def _shares(cls, value: float | dict[str, float]) -> float | dict[str, float]:
        for share in value.values() if isinstance(value, dict) else [value]:
            if not 0 <= share < 1:
                raise ValueError(f"{share:g} is not a probability below 1; give one from 0 to 0.99")
        return value

    def options(self) -> dict[str, Any]:
        """Arguments for ``create_fusion`` that were given."""
        given = {"dropout": self.dropout, "num_queries": self.num_queries, "num_heads": self.num_heads}
        return {key: value for key, value in given.items() if value is not None}
