"""Models of the library transformers, built from a config and from tensors; no code of theirs is run."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from encoders.hub import CONFIG_FILE, model_folder
from encoders.text.towers import TEXT_TOWERS, text_half_state
from encoders.weights import read_state

UNSTABLE = ("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version")
"""Of a config: what depends on the machine or the version, names code, or is chosen here."""

logger = logging.getLogger(__name__)


def read_config(folder: Path) -> dict[str, Any]:
    """The ``config.json`` of a model's folder.

    Raises:
        FileNotFoundError: if it has none.
        ValueError: if it is damaged.
    """
    path = model_folder(folder) / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no {CONFIG_FILE}; give the folder of a transformers model, as save_pretrained writes it"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: is damaged ({error}); copy the model again") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path}: is damaged (not an object); copy the model again")
    return config


def config_to_json(model: Any) -> dict[str, Any]:
    """JSON from which ``build_model`` makes the same architecture, with any later version of transformers."""
    config = json.loads(json.dumps(model.config.to_dict()))
    return {key: value for key, value in config.items() if key not in UNSTABLE}


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


def build_model(
    name: str,
    settings: Mapping[str, Any],
    state: Mapping[str, Tensor] | None,
    *,
    source: str = "",
    projected: bool = False,
) -> tuple[Any, set[str]]:
    """The base model in float32, and the names of parameters that the weights lack.

    Args:
        name: the encoder's, for error messages.
        settings: as ``config.json`` has them.
        state: the weights; None for random ones.
        source: where the weights are from, for error messages.
        projected: with the projection into the space that a text half shares with the other half.

    Raises:
        ValueError: if there is no such architecture, it is no text encoder, or the weights have other shapes.
    """
    config = _build_config(name, settings)
    model_class = _model_class(name, config, projected)
    if state is None:
        return model_class._from_config(config, dtype=torch.float32), set()
    if config.model_type in TEXT_TOWERS:
        tower = TEXT_TOWERS[config.model_type]
        state = text_half_state(state, nested=projected and tower.projecting != tower.model)
    try:
        with _quiet():
            model, report = model_class.from_pretrained(
                None, config=config, state_dict=dict(state), dtype=torch.float32, output_loading_info=True
            )
    except RuntimeError as error:
        raise ValueError(f"{name}: the weights in {source} do not fit its config ({error})") from error
    if report["unexpected_keys"]:
        logger.info("%s: weights that are not used: %s", name, ", ".join(sorted(report["unexpected_keys"])))
    return model, set(report["missing_keys"])


def _model_class(name: str, config: Any, projected: bool) -> Any:
    import transformers

    tower = TEXT_TOWERS.get(config.model_type)
    if tower is not None:
        return getattr(transformers, tower.projecting if projected else tower.model)
    try:
        with torch.device("meta"):
            return type(transformers.AutoModel.from_config(config))
    except ValueError as error:
        raise ValueError(f"{name}: transformers has no base model for {config.model_type!r}; {_ADVICE}") from error


_ADVICE = "give a text encoder, for example transformers/sentence-transformers/all-MiniLM-L6-v2"


def _build_config(name: str, settings: Mapping[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig

    kind = str(settings.get("model_type"))
    if kind not in CONFIG_MAPPING:
        raise ValueError(
            f"{name}: its config has model_type {kind!r}, which this version of transformers does not know, and code "
            f"that comes with a model is never run; {_ADVICE}"
        )
    stable = {key: value for key, value in settings.items() if key not in (*UNSTABLE, "model_type")}
    with _quiet():
        config = AutoConfig.for_model(kind, **stable)
    if config.is_encoder_decoder:
        raise ValueError(f"{name} is an encoder with a decoder ({kind}); {_ADVICE}")
    return config


def vocab_size(name: str, model: Any) -> int:
    """How many token ids a model has embeddings for.

    Raises:
        ValueError: if it takes no token ids.
    """
    embeddings = model.get_input_embeddings()
    if not isinstance(embeddings, nn.Embedding):
        raise ValueError(f"{name} is a {type(model).__name__}, which takes no token ids; {_ADVICE}")
    return embeddings.num_embeddings


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bar and the table of unused weights that transformers prints."""
    from transformers.utils import logging as theirs

    verbosity, bar = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(verbosity)
        if bar:
            theirs.enable_progress_bar()
