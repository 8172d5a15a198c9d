"""Where what may be computed again is kept between runs. Never imports torch."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile


def open_cache(warn: Callable[[str], None], *parts: str) -> Path | None:
    """The cache folder, or one in it, made and tried; what cannot be kept is a convenience less, and no error.

    Returns:
        None where nothing can be written, of which ``warn`` is told; a folder that can be read alone, and holds
        something, is still used.
    """
    folder = None
    try:
        folder = cache_folder().joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as file:
            file.write(b"\0")  # an empty file can be made on a disk that is full
    except (OSError, RuntimeError) as error:  # RuntimeError: this user has no home
        reason = getattr(error, "strerror", None) or error
        warn(
            f"warning: {folder or 'the cache'} cannot be written ({reason}), so nothing is kept for later runs; set "
            "MULTIMODAL_CACHE or XDG_CACHE_HOME to a folder that can be"
        )
        return folder if folder is not None and _holds_anything(folder) else None
    return folder


def _holds_anything(folder: Path) -> bool:
    with suppress(OSError):
        return any(folder.iterdir())
    return False


def cache_folder() -> Path:
    """``MULTIMODAL_CACHE``, else ``multimodal`` in the user's cache folder."""
    own = os.environ.get("MULTIMODAL_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "multimodal"
