"""Similarity of known and unknown records to a gallery, to choose its threshold by. Never imports torch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from export.gallery.contents import holds
from export.gallery.index import ExactIndex, chunks
from export.gallery.refusal import Unknowns
from multimodal.metrics.ranking import unit_rows


class Nearness(NamedTuple):
    """Similarities to the nearest product."""

    known: np.ndarray
    """Of records of enrolled products."""
    unknown: np.ndarray
    """Of records that should be refused."""
    unknowns: Unknowns
    left_out: int = 0
    """Number of records that are enrolled themselves, and would always be found."""


def nearness_of_records(index: ExactIndex, labels: Sequence[str], vectors: np.ndarray) -> Nearness:
    """Nearness of labelled records; without unknown products, of the known ones with their own product hidden."""
    contents = index.contents
    labels = contents.as_enrolled(labels)
    enrolled, places = contents.by_product, {label: place for place, label in enumerate(contents.labels)}
    is_new = np.array(
        [label not in enrolled or not holds(enrolled[label], one) for label, one in zip(labels, vectors, strict=True)],
        dtype=bool,
    )
    own = np.array([places.get(label, -1) for label in labels], dtype=np.int64)[is_new]
    best, hidden = np.zeros(len(own)), np.zeros(len(own))
    for rows, part in chunks(vectors[is_new], len(places)):
        similarities = index.similarities(part)
        best[rows], hidden[rows] = similarities.max(axis=1), _without_own(similarities, own[rows])
    known, left_out = own >= 0, int((~is_new).sum())
    if known.all():
        return Nearness(best, hidden, "products left out", left_out)
    return Nearness(best[known], best[~known], "records", left_out)


def nearness_within(index: ExactIndex) -> Nearness:
    """Nearness of the gallery's own vectors, each left out of its product's mean; unknown: its product hidden.

    Vectors of one product are often of one session, so that this looks better than new records will.
    """
    contents = index.contents
    vectors, owners = contents.vectors, contents.owners
    sums = np.add.reduceat(vectors, contents.starts, axis=0)
    alone = np.array(list(contents.products.values()))[owners] < 2
    best, hidden = np.zeros(len(vectors)), np.zeros(len(vectors))
    for rows, part in chunks(vectors, len(sums)):
        similarities, own = index.similarities(part), owners[rows]
        hidden[rows] = _without_own(similarities, own)
        best[rows] = np.maximum(hidden[rows], (part * unit_rows(sums[own] - part)).sum(axis=1))
    return Nearness(best[~alone], hidden, "products left out")


def _without_own(similarities: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Highest of each row except its own product; there are at least two."""
    hidden, rows = similarities.copy(), np.flatnonzero(own >= 0)
    hidden[rows, own[rows]] = -np.inf
    return hidden.max(axis=1)
