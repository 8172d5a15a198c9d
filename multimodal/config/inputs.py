"""The job's inputs: column, encoder, weights, augmentation."""

from typing import Any, Literal

from pydantic import Field, JsonValue, model_validator

from multimodal.config.section import Section
from multimodal.config.unread import changed
from multimodal.plugins import can_train


class FeatureMap(Section):
    """Affine map of a frozen encoder's tokens, fitted to mean tokens of training records without labels."""

    method: Literal["standardise", "pca"]
    """Mean 0 and variance 1 of each feature, or principal components."""
    components: int | None = Field(default=None, ge=2)
    """pca: how many; at most the dimension of the tokens, and one less than there are records."""
    whiten: bool = False
    """pca: gives each component variance 1."""

    @model_validator(mode="after")
    def _components_are_pcas(self) -> "FeatureMap":
        if self.method == "pca" and self.components is None:
            raise ValueError("method pca needs components; give their number, such as components: 64")
        return self


AUGMENTS = {
    "image": ("crop", "flip", "color", "rotation"),
    "text": ("token_dropout",),
    "audio": ("shift", "gain", "noise", "speed", "time_mask", "frequency_mask"),
}
"""Modality -> its augmentations."""


class Augment(Section):
    """Random changes to training values, drawn from (seed, epoch, row, input's name). 0 turns one off.

    Not used in evaluation, except where a contrastive task compares two views of one value.
    """

    enabled: bool = True
    """False turns all of them off for this input."""
    crop: float = Field(default=0.3, ge=0, lt=1)
    """Image: largest share of the area that a random crop takes away."""
    flip: float = Field(default=0.5, ge=0, le=1)
    """Image: probability of a left-right flip."""
    color: float = Field(default=0.2, ge=0, lt=1)
    """Image: largest relative change of brightness, contrast and saturation."""
    rotation: float = Field(default=10.0, ge=0, le=180)
    """Image: largest rotation, in degrees; the corners get the mean colour."""
    token_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Text: probability of leaving out each word; never all of them."""
    shift: float = Field(default=0.1, ge=0)
    """Audio: longest silence that is put before or after, in seconds; nothing is cut off."""
    gain: float = Field(default=6.0, ge=0)
    """Audio: largest change of loudness, in decibels."""
    noise: float = Field(default=0.005, ge=0)
    """Audio: largest root-mean-square of added white noise, relative to full scale."""
    speed: float = Field(default=0.1, ge=0, lt=0.5)
    """Audio: largest relative change of speed; pitch changes with it."""
    time_mask: float = Field(default=0.1, ge=0, lt=1)
    """Audio: largest share of the clip that one time mask of SpecAugment silences."""
    frequency_mask: float = Field(default=0.1, ge=0, lt=1)
    """Audio: largest share of the band that one frequency mask of SpecAugment silences."""

    def check_modality(self, modality: str) -> None:
        """Raises a ValueError for changes to values of another modality."""
        own = AUGMENTS.get(modality, ())
        others = sorted(changed(self) - {"enabled", *own})
        if others:
            there = f"there are {', '.join(own)}" if own else "there are none for it"
            raise ValueError(f"augment: {' and '.join(others)} would change no {modality}; {there}")


class Candidate(Section):
    """Encoder that `multimodal rank` compares with others for one input.

    Short forms: "NAME" (with the registry's own weights), "NAME@random", "NAME@WEIGHTS", or an earlier run's folder,
    for its encoder of this modality.
    """

    encoder: str
    """Registered name, or an earlier run's folder."""
    weights: str | None = "default"
    """See ``Input.weights``."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Passed to the encoder's builder."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        if not isinstance(data, str):
            return data
        encoder, separator, weights = data.partition("@")
        if not encoder.strip() or (separator and not weights.strip()):
            raise ValueError(f"{data!r} names no encoder; give NAME, NAME@random, NAME@WEIGHTS or a run's folder")
        if not separator:
            return {"encoder": encoder}
        return {"encoder": encoder, "weights": None if weights == "random" else weights}

    @property
    def label(self) -> str:
        """Its short form.

        >>> Candidate(encoder="torchvision/resnet18", weights=None).label
        'torchvision/resnet18@random'
        """
        if self.weights == "default":
            return self.encoder
        return f"{self.encoder}@{'random' if self.weights is None else self.weights}"


class Input(Section):
    """One input of the model: a column and the encoder that reads it."""

    column: str | None = None
    """Column of the manifest; left out: the input's name."""
    modality: Literal["image", "text", "audio"] | str | None = None
    """Left out: the encoder's."""
    encoder: str | None = None
    """Registered name, e.g. "torchvision/resnet18"; `multimodal encoders` lists them."""
    weights: str | None = "default"
    """"pretrained", null (random), a file, a folder, a hub id or an earlier run; "default": the registry's own
    weights where the encoder has any, else random."""
    share: str | None = None
    """Another input of the same modality, whose encoder and weights this one uses."""
    frozen: bool = False
    """Keeps this encoder frozen under any strategy; true for encoders without gradients (`onnx/PATH`)."""
    learning_rate_scale: float | None = Field(default=None, gt=0)
    """Factor on the learning rate for this encoder; left out: 1 with random weights, else transfer.encoder_scale."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Passed to the encoder's builder, e.g. {image_size: 96}."""
    candidates: list[Candidate] = Field(default_factory=list)
    """Encoders that `multimodal rank` compares, of which `multimodal train --encoder auto` takes the best."""
    augment: Augment = Augment()
    new_layers: int = Field(default=0, ge=0)
    """Residual layers over the encoder's tokens, trained from random weights with the heads, even if the encoder is
    frozen."""
    map: FeatureMap | None = None
    """Map of a frozen encoder's tokens, fitted before training and below new layers; left out: none."""

    @model_validator(mode="after")
    def _frozen_without_gradients(self) -> "Input":
        if self.encoder is not None and not can_train(self.encoder):
            if "frozen" in self.model_fields_set and not self.frozen:
                raise ValueError(f"frozen is false, but {self.encoder} has no gradients to train it by; leave it out")
            self.frozen = True
        return self

    @model_validator(mode="after")
    def _one_encoder(self) -> "Input":
        if (self.encoder is None) == (self.share is None):
            raise ValueError("give either `encoder`, or `share` with the name of another input")
        scaled = self.learning_rate_scale is not None
        own = self.weights != "default" or self.frozen or scaled or self.options or self.new_layers
        own = own or self.map is not None
        if self.share is not None and (own or self.candidates):
            raise ValueError(
                "weights, frozen, learning_rate_scale, options, map, new_layers and candidates belong to the encoder; "
                f"set them on the input {self.share!r}, whose encoder is shared"
            )
        return self
