"""Products enrolled from a few records each, without training again. Never imports torch."""

from export.gallery.gallery import Added, Gallery
from export.gallery.index import Found, Match
from export.gallery.refusal import Refusal
from export.gallery.source import GalleryError

__all__ = ["Added", "Found", "Gallery", "GalleryError", "Match", "Refusal"]
