"""A map of an encoder's tokens that is fitted before training."""

from typing import Literal

from pydantic import Field, model_validator

from multimodal.config.section import Section


class FeatureMap(Section):
    """An affine map of a frozen encoder's tokens, fitted to the mean tokens of the training records without labels."""

    method: Literal["standardise", "pca"]
    """Mean 0 and variance 1 of each feature, or principal components."""
    components: int | None = Field(default=None, ge=2)
    """pca: how many; at most the width of the tokens, and one less than there are records."""
    whiten: bool = False
    """pca: gives each component variance 1."""

    @model_validator(mode="after")
    def _components_are_pcas(self) -> "FeatureMap":
        if self.method == "pca" and self.components is None:
            raise ValueError("method pca keeps some components; say how many, such as components: 64")
        return self
