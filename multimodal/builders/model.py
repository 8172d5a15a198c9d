"""The model of a job: fusion, heads, layers, and the maps of its tokens."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from encoders.base import Encoder
from fusion import FusionModule, LateFusion, create_fusion
from multimodal.builders.heads import build_head
from multimodal.config import ConfigError, Job
from multimodal.config.frozen_rules import mapped_inputs, narrows_source
from multimodal.config.pair_rules import separates_inputs
from multimodal.model import MultimodalModel
from multimodal.model.contrastive import WIDTH, ContrastiveHead
from multimodal.model.heads import ClassificationHead, Head
from multimodal.model.input_heads import LateHead, UnimodalHeads
from multimodal.model.layers import NewLayers
from multimodal.model.zero_shot import ZeroShotHead
from multimodal.transfer.maps.token_map import TokenMap


def build_fusion(job: Job, in_dims: Mapping[str, int]) -> FusionModule:
    """The fusion over all inputs, whose tokens are so wide.

    Raises:
        ConfigError: if an argument does not suit it.
    """
    try:
        return create_fusion(job.fusion.name, in_dims, job.fusion.dim, **job.fusion.arguments())
    except (TypeError, ValueError) as error:
        raise ConfigError(f"fusion: {error}") from error


def build_model(job: Job, encoders: dict[str, Encoder], heads: Mapping[str, Mapping[str, Any]]) -> MultimodalModel:
    """Encoders, fusion and heads in one model.

    Args:
        heads: task -> what ``task_arguments`` gave.
    """
    maps = build_maps(job, encoders)
    fusion, settings = build_fusion(job, token_dims(encoders, maps)), job.fusion
    built: dict[str, Head] = {}
    unimodal: dict[str, dict[str, Head]] = {}
    for name, arguments in heads.items():
        kind, alone = job.tasks[name].type, _unimodal_heads(job, name, fusion.in_dims, arguments)
        if kind == "contrastive":
            built[name] = _contrastive_head(job, name, encoders, fusion)
        elif job.tasks[name].head == "zero_shot":
            built[name] = _zero_shot_head(job, name, fusion, arguments)
        elif isinstance(fusion, LateFusion):
            built[name] = LateHead(alone, fusion.in_dims)
        else:
            own = "knn" if job.tasks[name].head == "knn" else kind
            built[name] = build_head(own, fusion.out_dim, arguments, tower=job.tasks[name].tower)
            unimodal[name] = alone
    return MultimodalModel(
        encoders,
        fusion,
        built,
        reads={name: job.task_inputs(name) for name in heads},
        unimodal=UnimodalHeads(unimodal, weight=settings.unimodal_weight, dropout=settings.dropout or 0.0),
        maps=maps,
        layers=_new_layers(job, encoders, fusion.in_dims),
        modality_dropout=settings.modality_dropout,
    )


def _new_layers(job: Job, encoders: Mapping[str, Encoder], in_dims: Mapping[str, int]) -> dict[str, NewLayers]:
    """New layers over each encoder that wants some, under the first input that uses it, as the model keeps encoders."""
    return {
        kept_as(encoders, name): NewLayers(in_dims[name], entry.new_layers)
        for name, entry in job.inputs.items()
        if entry.new_layers
    }


def _contrastive_head(job: Job, name: str, encoders: Mapping[str, Encoder], fusion: FusionModule) -> ContrastiveHead:
    first, second = job.task_inputs(name)
    shared, mixed = encoders[first] is encoders[second], not separates_inputs(job.fusion)
    return ContrastiveHead(fusion.in_dims, (first, second), shared=shared, mixed=mixed)


def _zero_shot_head(job: Job, name: str, fusion: FusionModule, arguments: Mapping[str, Any]) -> ZeroShotHead:
    """Without its class embeddings, which are among the weights."""
    entry, is_projected = job.zero_shot_input(name), job.tasks[name].zero_shot.source is not None
    width = fusion.in_dims[entry]
    projection = nn.Linear(width, WIDTH) if is_projected else None
    head = ClassificationHead(WIDTH if is_projected else width, **arguments)
    return ZeroShotHead(fusion.in_dims, entry, head, projection=projection)


def _unimodal_heads(job: Job, name: str, in_dims: Mapping[str, int], arguments: Mapping[str, Any]) -> dict[str, Head]:
    """Input -> head of a task that sees it alone; none where nothing has a use for them."""
    kind, late = job.tasks[name].type, job.fusion.name == "late"
    if kind == "contrastive" or (not late and job.fusion.unimodal_weight == 0):
        return {}
    tower = job.tasks[name].tower if late else ()  # auxiliary heads shall ask much of the encoder, not of a tower
    widths = {entry: in_dims[entry] for entry in job.task_inputs(name)}
    return {entry: build_head(kind, width, arguments, tower=tower) for entry, width in widths.items()}


def build_maps(job: Job, encoders: Mapping[str, Encoder]) -> dict[str, TokenMap]:
    """The map of each encoder that has one, still to be fitted, under the first input that uses the encoder.

    Raises:
        ConfigError: if there are more components than features.
    """
    maps: dict[str, TokenMap] = {}
    for name in mapped_inputs(job):
        if name == kept_as(encoders, name):
            try:
                maps[name] = TokenMap(encoders[name].embed_dim, _components(job, name))
            except ValueError as error:
                place = "transfer.source" if narrows_source(job) else f"inputs.{name}.map"
                raise ConfigError(f"{place}: {error}") from error
    return maps


def token_dims(encoders: Mapping[str, Encoder], maps: Mapping[str, TokenMap]) -> dict[str, int]:
    """Input -> width of its tokens behind its map, if any."""
    owners = {name: kept_as(encoders, name) for name in encoders}
    return {name: maps[owner].out_dim if owner in maps else encoders[name].embed_dim for name, owner in owners.items()}


def kept_as(encoders: Mapping[str, Encoder], name: str) -> str:
    """The first input that uses the same encoder, as the model keeps encoders."""
    return next(other for other, encoder in encoders.items() if encoder is encoders[name])


def _components(job: Job, name: str) -> int | None:
    if job.transfer.source is not None and narrows_source(job):
        return job.transfer.source.components_kept
    entry = job.inputs[name]
    settings = (entry if entry.share is None else job.inputs[entry.share]).map
    return None if settings is None else settings.components
