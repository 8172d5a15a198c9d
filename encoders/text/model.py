"""Text models of the library transformers, built from a config and from tensors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from encoders.text.towers import TEXT_TOWERS, text_tower_state
from encoders.transformers.loading import base_class, load_model, make_config
from encoders.weights.state import read_state

_ADVICE = "give a text encoder, for example transformers/sentence-transformers/all-MiniLM-L6-v2"


def read_weights(files: Sequence[Path]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of a model, and those of the pooling after it, which only files of our own encoders hold."""
    state = {name: tensor for path in files for name, tensor in read_state(path).items()}
    if not all(name.startswith(("model.", "pooler.")) for name in state):
        return state, {}
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "pooler": {}}
    for name, tensor in state.items():
        part, _, own = name.partition(".")
        parts[part][own] = tensor
    return parts["model"], parts["pooler"]


def build_text_model(
    name: str,
    settings: Mapping[str, Any],
    state: Mapping[str, Tensor] | None,
    *,
    source: str = "",
    projected: bool = False,
) -> tuple[Any, set[str]]:
    """The base model in float32, and the names of parameters that the weights miss.

    Args:
        name: the encoder's, for error messages.
        settings: as ``config.json`` has them.
        state: the weights; None for random ones.
        source: where the weights are from, for error messages.
        projected: with the projection into the space that a text tower shares with the other tower.

    Raises:
        ValueError: if there is no such architecture, it is no text encoder, or the weights have other shapes.
    """
    import transformers

    config = make_config(name, settings, _ADVICE)
    if config.is_encoder_decoder:
        raise ValueError(f"{name} is an encoder with a decoder ({config.model_type}); {_ADVICE}")
    tower = TEXT_TOWERS.get(config.model_type)
    if tower is None:
        return load_model(name, base_class(name, config, _ADVICE), config, state, source=source)
    model_class = getattr(transformers, tower.projecting if projected else tower.model)
    if state is not None:
        state = text_tower_state(state, nested=projected and tower.projecting != tower.model)
    return load_model(name, model_class, config, state, source=source)


def vocab_size(name: str, model: Any) -> int:
    """Number of token ids that a model has embeddings for.

    Raises:
        ValueError: if it takes no token ids.
    """
    embeddings = model.get_input_embeddings()
    if not isinstance(embeddings, nn.Embedding):
        raise ValueError(f"{name} is a {type(model).__name__}, which takes no token ids; {_ADVICE}")
    return embeddings.num_embeddings
