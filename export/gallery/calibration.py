"""How near known and unknown records come to a gallery, to choose its threshold by. Never imports torch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from export.gallery.contents import SAME
from export.gallery.index import ExactIndex, chunks
from export.gallery.refusal import Unknowns


class Nearness(NamedTuple):
    """Similarity to the nearest product."""

    known: np.ndarray
    """Of records of enrolled products."""
    unknown: np.ndarray
    """Of records that should be refused."""
    unknowns: Unknowns
    left_out: int = 0
    """Records that are enrolled themselves, and would be found for sure."""


def nearness_of_records(index: ExactIndex, labels: Sequence[str], vectors: np.ndarray) -> Nearness:
    """Of labelled records; where none is of an unknown product, the known ones with their own product hidden."""
    places = {label: place for place, label in enumerate(index.contents.labels)}
    own = np.array([places.get(label, -1) for label in labels], dtype=np.int64)
    near, others, same = [], [], []
    for rows, part in chunks(vectors, len(index.contents.vectors)):
        similarities, mine = index.similarities(part), own[rows]
        near.append(similarities.max(axis=1))
        at_home = np.where(mine >= 0, similarities[np.arange(len(part)), mine], -1.0)
        same.append(at_home >= 1 - SAME)
        others.append(_without_own(similarities, mine))
    best, hidden, enrolled = (np.concatenate(values) if values else np.zeros(0) for values in (near, others, same))
    known, unknown = (own >= 0) & (enrolled == 0), own < 0
    if unknown.any():
        return Nearness(best[known], best[unknown], "records", int(enrolled.sum()))
    return Nearness(best[known], _finite(hidden[known]), "products left out", int(enrolled.sum()))


def nearness_within(index: ExactIndex) -> Nearness:
    """Of the gallery's own vectors, each one left out; unknown is each with its whole product hidden.

    Vectors of one product are often of one session, so that this looks better than new records will.
    """
    vectors, owners = index.contents.vectors, index.contents.owners
    alone = np.array(list(index.contents.products.values()))[owners] < 2
    near, others = [], []
    for rows, part in chunks(vectors, len(vectors)):
        cosines = part @ vectors.T
        cosines[np.arange(len(rows)), rows] = -np.inf
        similarities = np.maximum.reduceat(cosines, index.contents.starts, axis=1)
        near.append(similarities.max(axis=1))
        others.append(_without_own(similarities, owners[rows]))
    return Nearness(np.concatenate(near)[~alone], _finite(np.concatenate(others)), "products left out")


def _without_own(similarities: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Highest of each row but that of its own product; -inf where there is no other."""
    hidden = similarities.copy()
    rows = np.flatnonzero(own >= 0)
    hidden[rows, own[rows]] = -np.inf
    return hidden.max(axis=1)


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]
