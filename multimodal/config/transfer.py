"""How pretrained weights are used."""

from typing import Literal

from pydantic import Field

from multimodal.config.section import Section


class Lora(Section):
    """Low-rank parts beside the matrices of encoders that come with weights."""

    rank: int = Field(default=8, gt=0)
    alpha: float = Field(default=16.0, gt=0)
    """How strongly they count."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping an input of theirs in training."""
    targets: dict[str, list[str]] = Field(default_factory=dict)
    """Input: names of modules to adapt; left out: the linear layers of its attention, else all linear layers."""


class Transfer(Section):
    """How pretrained weights are used."""

    strategy: Literal[
        "linear_probe",
        "finetune",
        "probe_then_finetune",
        "gradual_unfreezing",
        "layerwise_lr_decay",
        "norm_and_bias",
        "lora",
        "none",
    ] = "finetune"
    """What trains when (none: nothing, for zero_shot heads), of encoders that come with weights; docs/transfer.md
    says which is for what."""
    probe_epochs: int | None = Field(default=None, gt=0)
    """probe_then_finetune: most epochs of the first phase, which freezes encoders that come with weights; left out:
    a third of train.epochs, at least 1."""
    unfreeze_from: int = Field(default=0, ge=0)
    """First depth group of each encoder with weights that fine-tuning changes; 0 changes all of it."""
    encoder_scale: float | None = Field(default=None, gt=0)
    """Factor on the learning rate for encoders that come with weights; left out: what suits each, 1 for compact/*, 0.1
    for the others."""
    layer_decay: float = Field(default=0.75, gt=0, le=1)
    """layerwise_lr_decay: factor from one depth group to the one before it."""
    lora: Lora = Lora()
    """lora: of the low-rank parts."""
