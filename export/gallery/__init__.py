"""Gallery of products, enrolled from a few records each without training. Never imports torch."""

from export.gallery.gallery import Added, Gallery
from export.gallery.refusal import Refusal
from export.gallery.results import Match, SearchResult
from export.gallery.source import GalleryError

__all__ = ["Added", "Gallery", "GalleryError", "Match", "Refusal", "SearchResult"]
