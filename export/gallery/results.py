"""Results of a search, and the file that they are written to. Never imports torch."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from multimodal.records import RecordError
from multimodal.runtime.files import write_atomically


@dataclass(frozen=True)
class Match:
    """A product and its similarity to a record."""

    label: str
    similarity: float
    """Cosine to the mean direction of its vectors, -1 to 1."""


@dataclass(frozen=True)
class SearchResult:
    """Nearest products of one record."""

    matches: tuple[Match, ...]
    """Nearest products, the nearest first."""
    is_known: bool
    """True if the nearest reaches the gallery's threshold, or there is none."""
    missing: tuple[str, ...] = ()
    """Missing inputs of the record."""

    @property
    def label(self) -> str | None:
        """Nearest product; None if the record is rejected."""
        return self.matches[0].label if self.is_known else None


def write_search_results(path: Path, results: Iterable[SearchResult | RecordError], k: int) -> None:
    """Writes a line per record: ``label`` (empty if rejected), ``label_1``, ``similarity_1`` to k, and ``error``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    places = range(1, k + 1)
    writer.writerow(["label", *(f"{name}_{place}" for place in places for name in ("label", "similarity")), "error"])
    for result in results:
        if isinstance(result, RecordError):
            writer.writerow([""] * (2 * k + 1) + [result.detail])
            continue
        cells = [cell for match in result.matches for cell in (match.label, repr(match.similarity))]
        label = "" if result.label is None else result.label
        writer.writerow([label, *cells, *[""] * (2 * k - len(cells)), ""])
    write_atomically(path, text.getvalue().encode("utf-8", "backslashreplace"))
