"""Models of the library transformers, from a folder's files: what all modalities share. No code of theirs is run."""

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoders.base import Encoder, Provenance
from encoders.info import Weights
from encoders.weights.hub import CONFIG_FILE, FEATURE_FILES, licence_of, locate, model_folder, read_json, weight_files
from encoders.weights.state import digest_of_files, read_state, state_mismatch

FAMILY = "transformers/"
UNSTABLE = ("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version")
"""Of a config: what depends on the machine or the version, names code, or is chosen here."""

logger = logging.getLogger(__name__)


def find_checkpoint(name: str, weights: Weights, *, source: str | None = None) -> tuple[str, list[Path], str]:
    """Folder or hub id of everything but weights; files with the weights, none for random ones; their licence.

    Args:
        name: the encoder's.
        source: its own folder or hub id, where that is not the rest of its name.
    """
    source = name.removeprefix(FAMILY) if source is None else source
    if weights is None:
        return source, [], "unknown"
    if weights != "pretrained" and Path(weights).is_file():
        return source, [Path(weights)], "unknown"
    if weights == "pretrained":
        folder = locate(source, with_weights=True, name=name)
    else:
        folder = locate(str(weights), with_weights=True)
    return str(folder), weight_files(folder), licence_of(folder)


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
    return read_json(path)


def read_features(folder: Path, part: str) -> dict[str, Any] | None:
    """Settings of a model's preprocessing in its folder; None where it does not have them.

    Args:
        part: key of the settings where a file describes several modalities, e.g. "image_processor".

    Raises:
        ValueError: if a file is damaged.
    """
    single, several = (folder / file for file in FEATURE_FILES)
    content = read_json(single) if single.is_file() else {}
    found = content.get(part, content) or (read_json(several).get(part) if several.is_file() else None)
    return found if isinstance(found, dict) else None


def tower_config(settings: Mapping[str, Any], tower: str) -> dict[str, Any]:
    """The config of one tower of a model of two modalities.

    >>> tower_config({"model_type": "clip", "projection_dim": 8, "vision_config": {"hidden_size": 4}}, "image")
    {'hidden_size': 4, 'projection_dim': 8, 'model_type': 'clip_vision_model'}
    """
    part = "vision" if tower == "image" else tower
    # what both towers share stands in the config around them
    shared = {key: settings[key] for key in ("projection_dim", "projection_hidden_act") if key in settings}
    kind = f"{settings['model_type']}_{part}_model"
    return {**(settings.get(f"{part}_config") or {}), **shared, "model_type": kind}


def config_to_json(model: Any) -> dict[str, Any]:
    """JSON from which the same architecture is made again, with any later version of transformers."""
    config = json.loads(json.dumps(model.config.to_dict()))
    return {key: value for key, value in config.items() if key not in UNSTABLE}


def make_config(name: str, settings: Mapping[str, Any], advice: str) -> Any:
    """The config of transformers.

    Args:
        name: the encoder's, for error messages.
        settings: as ``config.json`` has them.
        advice: ends the error message.

    Raises:
        ValueError: if there is no such architecture.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    kind = str(settings.get("model_type"))
    if kind not in CONFIG_MAPPING:
        raise ValueError(
            f"{name}: its config has model_type {kind!r}, which this version of transformers does not know, and code "
            f"that comes with a model is never run; {advice}"
        )
    stable = {key: value for key, value in settings.items() if key not in (*UNSTABLE, "model_type")}
    with _quiet():
        return AutoConfig.for_model(kind, **stable)


def base_class(name: str, config: Any, advice: str) -> Any:
    """The class of transformers that gives hidden states.

    Raises:
        ValueError: if it has none of this kind.
    """
    from transformers import AutoModel

    try:
        with torch.device("meta"):
            return type(AutoModel.from_config(config))
    except ValueError as error:
        raise ValueError(f"{name}: transformers has no base model for {config.model_type!r}; {advice}") from error


def load_model(
    name: str, model_class: Any, config: Any, state: Mapping[str, Tensor] | None, *, source: str = ""
) -> tuple[Any, set[str]]:
    """The model in float32 with these weights, and the names of parameters that they miss.

    Args:
        name: the encoder's, for error messages.
        state: the weights; None for random ones.
        source: where they are from, for error messages.

    Raises:
        ValueError: if the weights have other shapes.
    """
    if state is None:
        return model_class._from_config(config, dtype=torch.float32), set()
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


def read_part(files: Sequence[Path], part: str = "") -> dict[str, Tensor]:
    """The weights of all files in one; the state_dict of one of our encoders becomes that of its model.

    Args:
        part: beginning of the names that are meant where the files hold more than one model, e.g. ``"encoder."``.
    """
    state = {name: tensor for path in files for name, tensor in read_state(path).items()}
    if part or all(name.startswith("model.") for name in state):
        state = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    chosen = {name.removeprefix(part): tensor for name, tensor in state.items() if name.startswith(part)}
    return chosen or state


def note_weights(
    encoder: Encoder, name: str, weights: Weights, files: Sequence[Path], licence: str, *, missing: Collection[str]
) -> None:
    """Notes where an encoder's weights come from.

    Args:
        missing: names of its ``model`` that they do not hold.

    Raises:
        ValueError: if the encoder needs one of these.
    """
    kept = dict(encoder.get_submodule("model").named_parameters())
    lost = {key for key in missing if key in kept or "running_" in key}
    if lost:
        raise state_mismatch(f"{name}: what {weights} holds", missing=lost)
    if weights is not None:
        encoder.provenance = Provenance(str(weights), digest_of_files(files), licence)


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
