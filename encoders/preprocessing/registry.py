"""Preprocessors by kind: rebuilt from JSON, written to a folder and read back. Never imports torch."""

import json
from collections.abc import Callable, Collection, Mapping
from itertools import starmap
from pathlib import Path
from typing import Any

from encoders.plugins import Decorated, Registry, built_in
from encoders.preprocessing.base import Preprocessor
from encoders.preprocessing.files import is_desktop_file
from encoders.preprocessing.writing import write_atomically

CONFIG_FILE = "preprocess.json"
BUILT_IN = {
    "image": "encoders.preprocessing.image:ImagePreprocessor",
    "text": "encoders.preprocessing.text:TextPreprocessor",
    "words": "encoders.preprocessing.words:WordPreprocessor",
    "audio": "encoders.preprocessing.audio:AudioPreprocessor",
}


PREPROCESSORS: Registry[Any] = Registry(
    "preprocessor", "multimodal.preprocessors", lambda: starmap(built_in, BUILT_IN.items())
)


def register_preprocessor(kind: str) -> Callable[[Decorated], Decorated]:
    """Registers a Preprocessor class, which has ``from_config(config, assets)``, under a kind of your own.

    Raises:
        ValueError: if the kind is taken.
    """
    return PREPROCESSORS.register(kind)


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
        raise ValueError(f"a preprocessor's config needs a `kind`, for example 'image'; this one has {kind!r}")
    loaded = PREPROCESSORS.load(kind, distribution=distribution, allowed=allow_plugins)
    preprocessor: Preprocessor = loaded.from_config(fields, assets)
    return preprocessor


def save_preprocessor(preprocessor: Preprocessor, folder: Path) -> None:
    """Writes ``preprocess.json`` and the preprocessor's assets into ``folder``.

    Raises:
        LookupError: if no installed package registers the preprocessor's kind.
        ValueError: if an asset's name is not a plain file name.
    """
    config = preprocessor.to_config()
    if config.get("kind") not in BUILT_IN:
        config["distribution"] = _distribution(str(config.get("kind")))
    files = {CONFIG_FILE: json.dumps(config, indent=1, sort_keys=True) + "\n"}
    for name, text in getattr(preprocessor, "assets", dict)().items():
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
        paths = [path for path in sorted(folder.iterdir()) if path.is_file() and not is_desktop_file(path.name)]
        files = {path.name: path.read_text(encoding="utf-8") for path in paths}
        config = json.loads(files.pop(CONFIG_FILE))
    except ValueError as error:
        raise ValueError(f"{folder}: damaged ({error}); copy or write it again") from error
    if not isinstance(config, dict):
        raise ValueError(f"{folder / CONFIG_FILE}: damaged (not an object); copy or write it again")
    return preprocessor_from_config(config, files, allow_plugins=allow_plugins)


def _distribution(kind: str) -> str | None:
    try:
        return PREPROCESSORS.find(kind).distribution
    except LookupError as error:
        raise LookupError(
            f"preprocessor {kind!r} is not registered, so no other process could rebuild it; decorate its class with "
            f"register_preprocessor({kind!r}), or declare it in your package under "
            f'[project.entry-points."{PREPROCESSORS.group}"]'
        ) from error
