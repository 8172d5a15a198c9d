"""Maps of a job's tokens, and how wide the tokens are behind them."""

from collections.abc import Mapping

from encoders.base import Encoder
from multimodal.config import ConfigError, Task
from multimodal.config.map_rules import mapped_inputs, narrows_source
from multimodal.transfer.maps.token_map import TokenMap


def build_maps(task: Task, encoders: Mapping[str, Encoder]) -> dict[str, TokenMap]:
    """The map of each encoder that has one, still to be fitted, under the first input that uses the encoder.

    Raises:
        ConfigError: if there are more components than features.
    """
    maps: dict[str, TokenMap] = {}
    for name in mapped_inputs(task):
        if name == kept_as(encoders, name):
            try:
                maps[name] = TokenMap(encoders[name].embed_dim, _components(task, name))
            except ValueError as error:
                place = "transfer.source" if narrows_source(task) else f"inputs.{name}.map"
                raise ConfigError(f"{place}: {error}") from error
    return maps


def token_widths(encoders: Mapping[str, Encoder], maps: Mapping[str, TokenMap]) -> dict[str, int]:
    """Input -> width of its tokens behind its map, if any."""
    owners = {name: kept_as(encoders, name) for name in encoders}
    return {name: maps[owner].out_dim if owner in maps else encoders[name].embed_dim for name, owner in owners.items()}


def kept_as(encoders: Mapping[str, Encoder], name: str) -> str:
    """The first input that uses the same encoder, as the model keeps encoders."""
    return next(other for other, encoder in encoders.items() if encoder is encoders[name])


def _components(task: Task, name: str) -> int | None:
    if task.transfer.source is not None and narrows_source(task):
        return task.transfer.source.components_kept
    entry = task.inputs[name]
    settings = (entry if entry.share is None else task.inputs[entry.share]).map
    return None if settings is None else settings.components
