"""Where what may be computed again is kept between runs. Never imports torch."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """``MULTIMODAL_CACHE``, else ``multimodal`` in the user's cache folder."""
    own = os.environ.get("MULTIMODAL_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "multimodal"
