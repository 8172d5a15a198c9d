"""What a gallery found, as a file. Never imports torch."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from export.gallery.index import SearchResult
from multimodal.records import RecordError
from multimodal.runtime.files import write_atomically


def write_found(path: Path, answers: Iterable[SearchResult | RecordError], k: int) -> None:
    """One line a record: ``label`` (empty where it is refused), ``label_1``, ``similarity_1`` to k, and ``error``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    places = range(1, k + 1)
    writer.writerow(["label", *(f"{name}_{place}" for place in places for name in ("label", "similarity")), "error"])
    for answer in answers:
        if isinstance(answer, RecordError):
            reason = answer.reason if answer.input is None else f"{answer.input}: {answer.reason}"
            writer.writerow([""] * (2 * k + 1) + [reason])
            continue
        cells = [cell for match in answer.matches for cell in (match.label, repr(match.similarity))]
        label = "" if answer.label is None else answer.label
        writer.writerow([label, *cells, *[""] * (2 * k - len(cells)), ""])
    write_atomically(path, text.getvalue().encode("utf-8", "backslashreplace"))
