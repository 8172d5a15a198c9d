"""Preprocessors by kind: rebuilt from JSON, written to a folder and read back. Never imports torch."""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from encoders.preprocessing.base import Preprocessor, nearest_hint
from encoders.preprocessing.writing import write_atomically

CONFIG_FILE = "preprocess.json"
PLUGIN_GROUP = "multimodal.preprocessors"
PreprocessorFactory = Callable[[dict[str, Any], Mapping[str, str]], Preprocessor]
"""(config, assets: file name -> text) -> preprocessor."""


BUILT_IN = ("image", "text", "words", "audio")


def _builtin(kind: str) -> PreprocessorFactory | None:
    if kind == "image":
        from encoders.preprocessing.image import ImagePreprocessor

        return ImagePreprocessor.from_config
    if kind == "text":
        from encoders.preprocessing.text import TextPreprocessor

        return TextPreprocessor.from_config
    if kind == "words":
        from encoders.preprocessing.words import WordPreprocessor

        return WordPreprocessor.from_config
    if kind == "audio":
        from encoders.preprocessing.audio import AudioPreprocessor

        return AudioPreprocessor.from_config
    return None


def _plugin(kind: str, distribution: str | None, allowed: Collection[str] | None) -> PreprocessorFactory:
    if allowed is not None and kind not in allowed:
        raise LookupError(
            f"this bundle wants the preprocessor {kind!r} from the distribution {distribution or 'unknown'!r}, which "
            f"runs that package's code; if you trust it, load the bundle with allow_plugins=({kind!r},)"
        )
    from importlib.metadata import entry_points  # costs a cold start more than everything else in here

    found = [point for point in entry_points(group=PLUGIN_GROUP) if point.name == kind]
    if not found and distribution is None:
        raise LookupError(
            f"there is no preprocessor {kind!r}, neither built in nor from an installed package"
            f"{nearest_hint(kind, BUILT_IN)}"
        )
    if not found:
        raise LookupError(f"preprocessor {kind!r} is not installed; run: pip install {distribution}")
    if len(found) > 1:
        owners = " and ".join(sorted(str(point.dist and point.dist.name) for point in found))
        raise LookupError(f"preprocessor {kind!r} is registered twice, by {owners}; uninstall one of them")
    return found[0].load().from_config


def preprocessor_from_config(
    config: Mapping[str, Any], assets: Mapping[str, str], *, allow_plugins: Collection[str] | None = None
) -> Preprocessor:
    """Rebuilds a preprocessor from what ``to_config`` and ``assets`` gave.

    Args:
        allow_plugins: kinds from other distributions that may be loaded; None allows every installed one.

    Raises:
        LookupError: if the kind is neither built in nor an installed and allowed plug-in.
        ValueError: if the config names no kind, or holds what that kind refuses.
    """
    fields = dict(config)
    kind, distribution = fields.pop("kind", None), fields.pop("distribution", None)
    if not isinstance(kind, str):
        raise ValueError(f"a preprocessor's config needs a `kind`, for example {BUILT_IN[0]!r}; this one has {kind!r}")
    factory = _builtin(kind) or _plugin(kind, distribution, allow_plugins)
    return factory(fields, assets)


def save_preprocessor(preprocessor: Preprocessor, folder: Path) -> None:
    """Writes ``preprocess.json`` and the preprocessor's assets into ``folder``.

    Raises:
        LookupError: if no installed package registers the preprocessor's kind.
        ValueError: if an asset's name is not a plain file name.
    """
    config = preprocessor.to_config()
    if config.get("kind") not in BUILT_IN:
        config["distribution"] = _owner(str(config.get("kind")))
    files = {CONFIG_FILE: json.dumps(config, indent=1, sort_keys=True) + "\n"}
    for name, text in _assets(preprocessor).items():
        if not name or name in files or name != Path(name).name:
            raise ValueError(f"the asset name {name!r} cannot be used; give a plain file name, not {CONFIG_FILE}")
        files[name] = text
    for name, text in files.items():
        write_atomically(folder / name, text.encode())


def load_preprocessor(folder: Path, *, allow_plugins: Collection[str] | None = None) -> Preprocessor:
    """Reads what ``save_preprocessor`` wrote.

    Raises:
        FileNotFoundError: if the folder holds no ``preprocess.json``.
        ValueError: if its files are damaged.
        LookupError: as ``preprocessor_from_config``.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise FileNotFoundError(f"{folder} holds no {CONFIG_FILE}; give the folder that save_preprocessor wrote")
    try:
        files = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir()) if path.is_file()}
        config = json.loads(files.pop(CONFIG_FILE))
    except ValueError as error:
        raise ValueError(f"{folder}: damaged ({error}); copy or write it again") from error
    if not isinstance(config, dict):
        raise ValueError(f"{folder / CONFIG_FILE}: damaged (not an object); copy or write it again")
    return preprocessor_from_config(config, files, allow_plugins=allow_plugins)


def _assets(preprocessor: Preprocessor) -> dict[str, str]:
    assets = getattr(preprocessor, "assets", None)
    return assets() if assets is not None else {}


def _owner(kind: str) -> str:
    from importlib.metadata import entry_points

    for point in entry_points(group=PLUGIN_GROUP):
        if point.name == kind and point.dist is not None:
            return point.dist.name
    raise LookupError(
        f"preprocessor {kind!r} is not registered, so no other process could rebuild it; declare it in your "
        f'package under [project.entry-points."{PLUGIN_GROUP}"]'
    )
