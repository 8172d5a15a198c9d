"""timm's models by name, and their weights: found, read as tensors only, renamed by timm."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from encoders.info import Weights
from encoders.transformers.loading import find_checkpoint
from encoders.weights.download import download
from encoders.weights.state import read_state

FAMILY = "timm/"
OWN = "model."
"""Begins the name of every parameter that one of our encoders has saved."""


@dataclass(frozen=True)
class FoundWeights:
    """Tensors from files, with what was asked for."""

    asked: str
    files: tuple[Path, ...]
    licence: str
    state: dict[str, Tensor]

    @property
    def is_own(self) -> bool:
        """True if one of our encoders saved them."""
        return all(name.startswith(OWN) for name in self.state)


def published_weights(name: str, version: str | None) -> dict[str, Any]:
    """timm's record of a model's published weights: where they are, their preprocessing and licence.

    Raises:
        LookupError: if timm has no such model or version.
    """
    import timm

    architecture, _, tag = name.removeprefix(FAMILY).partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() says what there is"
        raise LookupError(f"timm has no model {architecture!r}; {hint}")
    if tag and version not in (None, tag):
        raise LookupError(f"{name} is of version {tag!r}, not {version!r}; give one of the two")
    tag = tag or version or ""
    try:
        found = timm.get_pretrained_cfg(f"{architecture}.{tag}" if tag else architecture)
    except RuntimeError as error:
        known = [each.partition(".")[2] for each in timm.list_pretrained(f"{architecture}.*")]
        raise LookupError(f"{name} has no version {tag!r}; there are {', '.join(known) or 'none'}") from error
    return {} if found is None else found.to_dict()


def read_weights(name: str, weights: Weights, published: Mapping[str, Any]) -> FoundWeights | None:
    """The tensors that ``weights`` stands for; None for random ones.

    Raises:
        ValueError: if "pretrained" is asked for and timm knows none.
        FileNotFoundError: if they are not there.
    """
    if weights is None:
        return None
    hub_id, url = published.get("hf_hub_id"), published.get("url")
    if weights != "pretrained" or hub_id:
        _, files, licence = find_checkpoint(name, weights, source=str(hub_id))
    elif url:
        files, licence = [download(url, name)], "unknown"
    else:
        raise ValueError(f"timm has no pretrained weights for {name}; give weights: FILE, or weights: null")
    if weights == "pretrained":
        licence = str(published.get("license") or licence)
    state = {key: tensor for path in files for key, tensor in read_state(path).items()}
    return FoundWeights(str(weights), tuple(files), licence, state)


def build_timm_model(name: str, published: Mapping[str, Any], image_size: int, found: FoundWeights | None) -> Any:
    """timm's model, with the weights found if it can read them: it renames and resizes them as need be.

    Raises:
        ValueError: if the model cannot take images of that size, or the weights do not fit.
    """
    import timm

    options: dict[str, Any] = {"img_size": image_size} if published.get("fixed_input_size") else {}
    if found is not None and not found.is_own:
        options |= {"pretrained": True, **_overlay(published, found)}
    tag = published.get("tag")
    architecture = name.removeprefix(FAMILY).partition(".")[0]
    try:
        model: Any = timm.create_model(f"{architecture}.{tag}" if tag else architecture, **options)
    except (RuntimeError, KeyError, ValueError, AssertionError, TypeError) as error:
        given = f"images of {image_size} pixels" if found is None else found.asked
        raise ValueError(f"{name} does not take {given} ({str(error)[:400]})") from error
    model.pretrained_cfg = model.default_cfg = {}  # else the tensors stay in memory a second time
    return model


def _overlay(published: Mapping[str, Any], found: FoundWeights) -> dict[str, Any]:
    """Config that makes timm read tensors instead of its own source; a user's file has its own classes."""
    if found.asked == "pretrained" or not Path(found.asked).is_file():
        return {"pretrained_cfg_overlay": {"state_dict": found.state}}
    named = published.get("classifier") or ()
    first = [named] if isinstance(named, str) else list(named)
    rows = [len(found.state[f"{key}.weight"]) for key in first if f"{key}.weight" in found.state]
    classes = rows[0] if rows else 0
    overlay = {"state_dict": found.state, "num_classes": classes, "label_offset": 0}
    return {"num_classes": classes, "pretrained_cfg_overlay": overlay}
