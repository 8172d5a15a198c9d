"""The model of a job: fusion, heads, layers, and the maps of its tokens."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from encoders.base import Encoder
from fusion import FusionModule, LateFusion, create_fusion
from multimodal.builders.heads import build_head
from multimodal.config import Job, errors_of
from multimodal.config.frozen_rules import mapped_inputs, narrows_source
from multimodal.config.pair_rules import separates_inputs
from multimodal.model import MultimodalModel
from multimodal.model.contrastive import WIDTH
from multimodal.model.heads import ClassificationHead, Head, HeadPlace, head_class
from multimodal.model.input_heads import LateHead, UnimodalHeads
from multimodal.model.layers import NewLayers
from multimodal.model.model import kept_encoders
from multimodal.model.zero_shot import ZeroShotHead
from multimodal.transfer.maps.token_map import TokenMap


def build_fusion(job: Job, in_dims: Mapping[str, int]) -> FusionModule:
    """The fusion over all inputs, whose tokens are so wide.

    Raises:
        ConfigError: if an argument does not suit it.
    """
    with errors_of("fusion: ", (TypeError, ValueError)):
        return create_fusion(job.fusion.name, in_dims, job.fusion.dim, **job.fusion.arguments())


def build_model(job: Job, encoders: dict[str, Encoder], heads: Mapping[str, Mapping[str, Any]]) -> MultimodalModel:
    """Encoders, fusion and heads in one model.

    Args:
        heads: task -> what ``head_arguments`` gave.
    """
    encoder_of = kept_encoders(encoders)
    maps, settings = build_maps(job, encoders, encoder_of), job.fusion
    dims = {name: encoder.embed_dim for name, encoder in encoders.items()}
    dims |= {name: maps[owner].out_dim for name, owner in encoder_of.items() if owner in maps}
    fusion = build_fusion(job, dims)
    built: dict[str, Head] = {}
    unimodal: dict[str, dict[str, Head]] = {}
    for name, arguments in heads.items():
        task, inputs = job.tasks[name], tuple(job.task_inputs(name))
        place = HeadPlace(fusion.out_dim, fusion.in_dims, inputs, encoder_of, separates_inputs(job.fusion))
        path = task.kind.head_of(task)
        sees_fused = head_class(path).sees == "fused"
        alone = _unimodal_heads(job, name, place, arguments) if sees_fused else {}
        if task.head == "zero_shot":
            built[name] = _zero_shot_head(job, name, fusion, arguments)
        elif not sees_fused:
            built[name] = build_head(path, place, arguments)
        elif isinstance(fusion, LateFusion):
            built[name] = LateHead(alone, fusion.in_dims)
        else:
            built[name] = build_head(path, place, arguments, tower=task.tower)
            unimodal[name] = alone
    return MultimodalModel(
        encoders,
        fusion,
        built,
        reads={name: job.task_inputs(name) for name in heads},
        unimodal=UnimodalHeads(unimodal, weight=settings.unimodal_weight, dropout=settings.dropout or 0.0),
        maps=maps,
        layers=_new_layers(job, encoder_of, fusion.in_dims),
        modality_dropout=settings.modality_dropout,
    )


def _new_layers(job: Job, encoder_of: Mapping[str, str], in_dims: Mapping[str, int]) -> dict[str, NewLayers]:
    """New layers over each encoder that wants some, under the first input that uses it, as the model keeps encoders."""
    return {
        encoder_of[name]: NewLayers(in_dims[name], entry.new_layers)
        for name, entry in job.inputs.items()
        if entry.new_layers
    }


def _zero_shot_head(job: Job, name: str, fusion: FusionModule, arguments: Mapping[str, Any]) -> ZeroShotHead:
    """Without its class embeddings, which are among the weights."""
    entry, is_projected = job.zero_shot_input(name), job.tasks[name].zero_shot.source is not None
    dim = fusion.in_dims[entry]
    projection = nn.Linear(dim, WIDTH) if is_projected else None
    head = ClassificationHead(WIDTH if is_projected else dim, **arguments)
    return ZeroShotHead(fusion.in_dims, entry, head, projection=projection)


def _unimodal_heads(job: Job, name: str, place: HeadPlace, arguments: Mapping[str, Any]) -> dict[str, Head]:
    """Input -> head of a task that sees it alone; none where nothing has a use for them."""
    task, late = job.tasks[name], job.fusion.name == "late"
    if not late and job.fusion.unimodal_weight == 0:
        return {}
    tower = task.tower if late else ()  # auxiliary heads should ask much of the encoder, not of a tower
    places = {entry: replace(place, dim=place.in_dims[entry]) for entry in place.inputs}
    return {entry: build_head(task.kind.head, own, arguments, tower=tower) for entry, own in places.items()}


def build_maps(job: Job, encoders: Mapping[str, Encoder], encoder_of: Mapping[str, str]) -> dict[str, TokenMap]:
    """The map of each encoder that has one, still to be fitted, under the first input that uses the encoder.

    Raises:
        ConfigError: if there are more components than features.
    """
    maps: dict[str, TokenMap] = {}
    for name in mapped_inputs(job):
        if name == encoder_of[name]:
            place = "transfer.source" if narrows_source(job) else f"inputs.{name}.map"
            with errors_of(f"{place}: "):
                maps[name] = TokenMap(encoders[name].embed_dim, _components(job, name))
    return maps


def _components(job: Job, name: str) -> int | None:
    if job.transfer.source is not None and narrows_source(job):
        return job.transfer.source.components_kept
    settings = job.owner(name).map
    return None if settings is None else settings.components
