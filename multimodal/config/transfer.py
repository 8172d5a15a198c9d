"""Use of pretrained weights."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from multimodal.config.section import Section, registered
from multimodal.plugins import STRATEGIES


class Lora(Section):
    """Low-rank updates of the matrices of pretrained encoders."""

    rank: int = Field(default=8, gt=0)
    alpha: float = Field(default=16.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """On their inputs, in training."""
    targets: dict[str, list[str]] = Field(default_factory=dict)
    """Input: names of modules to adapt; left out: the linear layers of its attention, else all linear layers."""


class SecondPhase(Section):
    """Fine-tuning by SGD once the heads have converged."""

    learning_rate: float = Field(default=1e-4, gt=0)
    """Peak, in the place of train.learning_rate; encoders multiply it by their own or transfer.encoder_scale, where
    one is given."""
    momentum: float = Field(default=0.9, ge=0, lt=1)


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


class Transfer(Section):
    """Use of pretrained weights."""

    strategy: Annotated[str, registered(STRATEGIES, "auto")] = "auto"
    """Plan of what trains when; docs/transfer.md compares them. auto: chosen by the number of labelled records per
    class, by a rule that the run names. none: nothing trains, for zero_shot heads."""
    probe_epochs: int | None = Field(default=None, gt=0)
    """Most epochs of the first phase, which freezes pretrained encoders; left out: a third of train.epochs with
    probe_then_finetune, half with two_phase, at least 1."""
    unfreeze_from: int | None = None
    """First depth group of each encoder with weights that fine-tuning changes: 0 changes all of it, -1 the last
    group; left out: 0, with partial -1."""
    encoder_scale: float | None = Field(default=None, gt=0)
    """Factor on the learning rate of pretrained encoders; left out: 1 for compact/*, 0.1 for the others."""
    layer_decay: float = Field(default=0.75, gt=0, le=1)
    """layerwise_lr_decay: factor from one depth group to the one before it."""
    views: int = Field(default=1, gt=0)
    """Of each training value of frozen encoders: the value itself and views - 1 augmented ones, each encoded once and
    kept. An epoch trains on view (epoch modulo views); computed heads see all at once."""
    guard: Literal["auto", "off"] = "auto"
    """auto: measures after training whether the weights helped, on a few hundred training records."""
    lora: Lora = Lora()
    source: Source | None = None
    """Use of the labelled records of data.source."""
    adapt: Adapt | None = None
    """A loss that uses the target inputs of data.unlabelled."""
    two_phase: SecondPhase = SecondPhase()
    l2_sp: float = Field(default=0.0, ge=0)
    """Penalty: half of it times the squared distance of encoders' weights from their source weights, in place of weight
    decay. Tried: 0.001 to 1."""
    distill: float = Field(default=0.0, ge=0)
    """Weight of the distance of encoders' tokens from those of their source weights, relative to the size of these.
    Costs a second pass through the encoders."""
    average: Literal["none", "wise_ft", "soup", "ema"] = "none"
    """Average of weights, kept where it is better on the validation table: of the probe and the end of fine-tuning, of
    the best epochs, or of all steps of the last phase."""
    wise_ft_shares: list[float] = Field(default=[0.0, 0.25, 0.5, 0.75, 1.0])
    """wise_ft: shares of the fine-tuned weights that are tried; 0 (the probe) and 1 among them."""
    soup_size: int = Field(default=4, gt=1)
    """soup: most epochs whose weights are kept, the best on the validation table."""
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    """ema: about the last 1 / (1 - decay) steps count."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Arguments of a registered strategy of your own."""

    @field_validator("wise_ft_shares")
    @classmethod
    def _both_ends(cls, value: list[float]) -> list[float]:
        if not {0.0, 1.0} <= {*value} or min(value) < 0 or max(value) > 1:
            raise ValueError(f"{value} are not shares from 0 to 1 with both ends; give for example [0, 0.5, 1]")
        return value
