"""The whole model in one file: encode, fuse, heads."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from encoders.base import Encoder, evaluating
from fusion.base import FusionModule, masked_mean
from fusion.names import NamedModules
from multimodal.model.heads import Head
from multimodal.model.input_heads import LateHead, UnimodalHeads
from multimodal.model.modes import batch_norms, set_training_modes


class ModelOutput(NamedTuple):
    """Outputs of the model for a batch."""

    outputs: dict[str, Float[Tensor, "b ..."]]
    """Task -> raw outputs: logits, standardised values, embeddings."""
    fused: Float[Tensor, "b f"]
    pooled: dict[str, Float[Tensor, "b _d"]]
    """Input -> masked mean of its tokens; where the input is missing, the token that stands for it."""
    unimodal: dict[str, dict[str, Float[Tensor, "b _c"]]]
    """Task -> input -> outputs of the head that sees this input alone; empty outside training."""
    tokens: Mapping[str, Float[Tensor, "b _l _d"]] = MappingProxyType({})
    """Input -> what its encoder said, before any map or new layer; empty outside training."""
    masks: Mapping[str, Bool[Tensor, "b _l"]] = MappingProxyType({})
    """Input -> True for a real token; empty outside training."""

    @property
    def embedding(self) -> Float[Tensor, "b f"]:
        """The fused vector at length 1."""
        return F.normalize(self.fused, dim=1)


class MultimodalModel(nn.Module):
    """Encoders, one fusion, one head per task.

    Two inputs given the *same* encoder object share its weights.

    Args:
        encoders: input name -> encoder.
        fusion: takes the tokens of all inputs.
        heads: task name -> head.
        reads: task name -> inputs that it may use; the others are hidden from it as if they were missing. A task that
            is not named uses all.
        unimodal: auxiliary heads over single inputs; None has none.
        maps: input name -> fixed map of each token of its encoder, ``[b l d]`` -> ``[b l k]``, under the first input
            that uses it.
        layers: input name -> layers over the tokens of its encoder, behind the map, ``[b l d]`` -> ``[b l d]``, under
            the first input that uses it.
        modality_dropout: probability of hiding each present input of a record while training, or input -> its own;
            never all of them.
    """

    def __init__(
        self,
        encoders: dict[str, Encoder],
        fusion: FusionModule,
        heads: dict[str, Head],
        *,
        reads: Mapping[str, Sequence[str]] | None = None,
        unimodal: UnimodalHeads | None = None,
        maps: Mapping[str, nn.Module] | None = None,
        layers: Mapping[str, nn.Module] | None = None,
        modality_dropout: float | Mapping[str, float] = 0.0,
    ) -> None:
        super().__init__()
        self.encoder_of = kept_encoders(encoders)
        """Input name -> the name under which its encoder is kept (another input's where it is shared)."""
        self.encoders = NamedModules({name: encoders[name] for name in self.encoder_of.values()})
        self.maps = NamedModules(dict(maps or {}))
        self.layers = NamedModules(dict(layers or {}))
        self.fusion = fusion
        self.heads = NamedModules(heads)
        self.reads = {task: frozenset((reads or {}).get(task, encoders)) for task in heads}
        self.unimodal = UnimodalHeads({}) if unimodal is None else unimodal
        if not isinstance(modality_dropout, Mapping):
            modality_dropout = dict.fromkeys(encoders, modality_dropout)
        self.modality_dropout = {name: modality_dropout.get(name, 0.0) for name in encoders}
        self.objectives = NamedModules({})
        """Name -> ``Objective``; only while training."""

    @property
    def input_names(self) -> tuple[str, ...]:
        """Input names in config order."""
        return tuple(self.encoder_of)

    def encoder(self, name: str) -> Encoder:
        """The encoder of an input."""
        encoder = self.encoders[self.encoder_of[name]]
        assert isinstance(encoder, Encoder)
        return encoder

    def head(self, name: str) -> Head:
        """The head of a task."""
        head = self.heads[name]
        assert isinstance(head, Head)
        return head

    @property
    def late_heads(self) -> dict[str, LateHead]:
        """Task -> its head, where that is one of late fusion."""
        return {name: head for name, head in self.heads.items() if isinstance(head, LateHead)}

    def with_tasks(self, names: Collection[str]) -> "MultimodalModel":
        """The same encoders and fusion with the heads of these tasks alone, to answer with."""
        encoders = {name: self.encoder(name) for name in self.encoder_of}
        heads = {name: self.head(name) for name in self.heads if name in names}
        reads = {name: tuple(self.reads[name]) for name in heads}
        maps, layers = dict(self.maps.items()), dict(self.layers.items())
        return MultimodalModel(encoders, self.fusion, heads, reads=reads, maps=maps, layers=layers)

    def train(self, mode: bool = True) -> "MultimodalModel":
        """Train mode for what trains; what is frozen (``requires_grad`` off) stays in eval mode, always."""
        super().train(mode)
        if mode:
            set_training_modes(self)
        return self

    def forward(self, inputs: dict[str, dict[str, Tensor]]) -> ModelOutput:
        """``{input: {tensor: [b ...], "present": bool [b]}}`` -> outputs of every task."""
        return self.fuse(*self.encode(inputs))

    def encode(self, inputs: dict[str, dict[str, Tensor]]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Tokens ``[b l d]`` and masks ``[b l]`` of every input; a missing input's mask is all False."""
        tokens, masks = {}, {}
        for name in self.encoder_of:
            encoder, arrays = self.encoder(name), dict(inputs[name])
            present = arrays.pop("present")
            if "tokens" in arrays:  # of a frozen encoder, kept from before (multimodal/features/readers.py)
                tokens[name], masks[name] = arrays["tokens"], arrays["mask"] & present[:, None]
            elif self.training:
                tokens[name], masks[name] = _encode_present(encoder, arrays, present)
            else:
                tokens[name], mask = encoder(arrays)
                masks[name] = mask & present[:, None]
        return tokens, masks

    def fuse(self, tokens: dict[str, Tensor], masks: dict[str, Tensor]) -> ModelOutput:
        """Maps, new layers, modality dropout (training only), missing tokens, fusion, heads."""
        said, tokens = tokens, {name: self._after_layers(name, tokens[name]) for name in tokens}
        pooled = {name: masked_mean(*self.fusion.fill_missing(name, tokens[name], masks[name])) for name in tokens}
        everything = frozenset(self.encoder_of)
        views = dict.fromkeys([everything, *self.reads.values()])  # each once, in an order that never varies
        fused = {inputs: self._fuse(tokens, masks, inputs) for inputs in views}
        side_by_side = torch.cat(list(pooled.values()), dim=1)
        outputs = {name: self._output(name, fused[self.reads[name]], tokens, side_by_side) for name in self.heads}
        if not self.training:
            return ModelOutput(outputs, fused[everything].vector, pooled, {})
        return ModelOutput(outputs, fused[everything].vector, pooled, self._answers(pooled, fused), said, masks)

    def _output(
        self, task: str, fused: "_Fused", tokens: dict[str, Tensor], side_by_side: Float[Tensor, "b _d"]
    ) -> Float[Tensor, "b ..."]:
        head = self.head(task)
        if isinstance(head, LateHead):
            return head(fused.vector, fused.present)
        if head.sees == "tokens":
            own = [name for name in self.encoder_of if name in self.reads[task]]
            return head({name: tokens[name] for name in own}, {name: fused.masks[name] for name in own})
        return head(side_by_side if head.sees == "mean_tokens" else fused.vector)

    def uses_mean_token_only(self, name: str) -> bool:
        """True where of an input's tokens nothing but their mean is used."""
        tasks = [task for task in self.heads if self.head(task).sees == "tokens"]
        seen = {*self.layers, *(self.encoder_of[entry] for task in tasks for entry in self.reads[task])}
        return self.fusion.uses_mean_token_only and self.encoder_of[name] not in seen

    def _after_layers(self, name: str, tokens: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        owner = self.encoder_of[name]
        tokens = self.maps[owner](tokens) if owner in self.maps else tokens
        return self.layers[owner](tokens) if owner in self.layers else tokens

    def _answers(
        self, pooled: dict[str, Tensor], fused: dict[frozenset[str], "_Fused"]
    ) -> dict[str, dict[str, Tensor]]:
        late = {name: head.outputs(fused[self.reads[name]].vector) for name, head in self.late_heads.items()}
        return self.unimodal(pooled) | late

    def _fuse(self, tokens: dict[str, Tensor], masks: dict[str, Tensor], inputs: frozenset[str]) -> "_Fused":
        """Some of the inputs fused, the others hidden."""
        masks = {name: mask if name in inputs else torch.zeros_like(mask) for name, mask in masks.items()}
        if self.training and any(self.modality_dropout.values()):
            masks = drop_modalities(masks, self.modality_dropout)
        return _Fused(self.fusion(tokens, masks), masks)


def kept_encoders(encoders: Mapping[str, Encoder]) -> dict[str, str]:
    """Input -> the first input with the same encoder, under whose name a model keeps it."""
    owners: dict[int, str] = {}
    return {name: owners.setdefault(id(encoder), name) for name, encoder in encoders.items()}


class _Fused(NamedTuple):
    """What heads see of a batch."""

    vector: Float[Tensor, "b f"]
    masks: dict[str, Bool[Tensor, "b _l"]]
    """Input -> True for a real token that was not hidden."""

    @property
    def present(self) -> dict[str, Bool[Tensor, " b"]]:
        """Input -> which records have it."""
        return {name: mask.any(dim=1) for name, mask in self.masks.items()}


def _encode_present(
    encoder: Encoder, arrays: dict[str, Tensor], present: Bool[Tensor, " b"]
) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
    """Encodes only the rows that have the input, so that blanks never touch a BatchNorm."""
    rows = present.nonzero()[:, 0]
    elsewhere = _rows_elsewhere(encoder, len(rows), present.device)
    if len(rows) == len(present) > 1:
        return encoder(arrays)
    if len(rows) == 0 and not elsewhere:
        with evaluating(encoder):  # keeps the gradient's path, and the blanks out of running statistics
            tokens, mask = encoder({name: array[:1] for name, array in arrays.items()})
        tokens = (tokens * 0).expand(len(present), -1, -1)
        return tokens, torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    # a record alone has no batch statistics, and BatchNorm refuses where it has one value a channel
    with evaluating(*(batch_norms(encoder) if len(rows) == 1 else [])):
        tokens, mask = encoder({name: array[rows] for name, array in arrays.items()})
    shape = (len(present), *tokens.shape[1:])
    all_tokens = tokens.new_zeros(shape).index_copy(0, rows, tokens)
    all_masks = mask.new_zeros(shape[:2]).index_copy(0, rows, mask)
    return all_tokens, all_masks


def _rows_elsewhere(encoder: Encoder, rows: int, device: torch.device) -> bool:
    """Whether other processes encode rows in this step and wait for this one's part of the batch statistics."""
    if not dist.is_initialized():
        return False
    if not any(isinstance(module, nn.SyncBatchNorm) and module.training for module in encoder.modules()):
        return False
    total = torch.tensor(rows, device=device)
    dist.all_reduce(total)
    return int(total) > rows


def drop_modalities(
    masks: dict[str, Bool[Tensor, "b _l"]], probabilities: Mapping[str, float]
) -> dict[str, Bool[Tensor, "b _l"]]:
    """Hides each present input of each record with its probability; one that would lose all keeps one of them.

    ModDrop (Neverova et al., 2016, https://arxiv.org/abs/1501.00102), per record, with the learned missing
    token of the fusion in the place of zeros.
    """
    present = torch.stack([mask.any(dim=1) for mask in masks.values()], dim=1)  # [b m]
    draws = torch.rand(present.shape, device=present.device)
    margins = draws - torch.tensor([probabilities[name] for name in masks], device=draws.device)
    nearest = margins.masked_fill(~present, -2.0).argmax(dim=1, keepdim=True)  # stays where all would be hidden
    keep = (margins >= 0).scatter(1, nearest, True)
    return {name: mask & keep[:, index, None] for index, (name, mask) in enumerate(masks.items())}
