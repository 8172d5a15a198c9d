"""State of a gallery: vectors by product, their source, and the rejection threshold. Never imports torch."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from export.gallery.refusal import Refusal
from export.gallery.source import VectorSource
from multimodal.records import class_label

SAME = 1e-5
"""Largest difference of two equal vectors by rounding: in another batch it is some 1e-7. Cosines tell less: those
of two photos of one product can be 1 to six digits."""
_LENGTH_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Contents:
    """State of a gallery; changes make another."""

    source: VectorSource
    products: dict[str, int]
    """Label -> number of vectors."""
    vectors: np.ndarray
    """float32 [n d], of length 1; those of one product are neighbours, in the order of ``products``."""
    refusal: Refusal | None = None
    """None rejects nothing."""
    revision: int = 0
    """Number of changes so far."""
    labels: tuple[str, ...] = field(init=False, repr=False, compare=False)
    starts: np.ndarray = field(init=False, repr=False, compare=False)
    """Row of each product's first vector, int [p]."""

    def __post_init__(self) -> None:
        counts = np.fromiter(self.products.values(), np.int64, len(self.products))
        object.__setattr__(self, "labels", tuple(self.products))
        object.__setattr__(self, "starts", np.concatenate([[0], counts.cumsum()])[:-1].astype(np.int64))

    @classmethod
    def empty(cls, source: VectorSource) -> "Contents":
        """State without any product."""
        return cls(source, {}, np.zeros((0, source.dim), np.float32))

    @property
    def owners(self) -> np.ndarray:
        """Place of each vector's product in ``labels``, int [n]."""
        return np.repeat(np.arange(len(self.products)), list(self.products.values()))

    @property
    def by_product(self) -> dict[str, np.ndarray]:
        """Label -> its vectors, [m d]."""
        if not self.products:
            return {}
        return dict(zip(self.labels, np.split(self.vectors, self.starts[1:]), strict=True))

    def with_vectors(self, labels: Sequence[str], vectors: np.ndarray) -> "Contents":
        """State with more vectors; one that its product has already is not added twice.

        Raises:
            ValueError: if there is not one label per vector, or they are not of length 1 and the source's dimension.
        """
        vectors = checked_vectors(vectors, self.source.dim)
        if len(labels) != len(vectors):
            raise ValueError(f"there are {len(labels)} labels for {len(vectors)} vectors; give one per vector")
        kept, given = self.by_product, dict[str, list[int]]()
        for row, label in enumerate(self.as_enrolled(labels)):
            given.setdefault(label, []).append(row)
        for label, rows in given.items():
            kept[label] = with_new(kept.get(label, vectors[:0]), vectors[rows])
        return self._with(kept)

    def without(self, labels: Collection[str]) -> "Contents":
        """State without these products; those that are not enrolled change nothing."""
        dropped = {*labels, *self.as_enrolled(labels)}
        return self._with({label: own for label, own in self.by_product.items() if label not in dropped})

    def as_enrolled(self, labels: Iterable[str]) -> list[str]:
        """Labels in their enrolled spelling: older galleries may hold decomposed ones (NFD)."""
        names = {class_label(own): own for own in self.labels} | {own: own for own in self.labels}
        return [names.get(label, names.get(class_label(label), label)) for label in labels]

    def _with(self, by_product: dict[str, np.ndarray]) -> "Contents":
        vectors = np.concatenate([self.vectors[:0], *by_product.values()])
        return replace(self, products={label: len(own) for label, own in by_product.items()}, vectors=vectors)


def with_new(own: np.ndarray, more: np.ndarray) -> np.ndarray:
    """The vectors [m d] of a product, and those of more [n d] that are none of them and no earlier one of more."""
    vectors = np.concatenate([own, more])
    # equal ones lie in the same cell or in neighbouring ones, along whichever axis the vectors differ most
    axis = vectors[:, vectors.std(axis=0).argmax()].astype(np.float64)
    kept, by_cell = list(range(len(own))), dict[int, list[int]]()
    for row, cell in enumerate(np.floor(axis / (2 * SAME)).astype(np.int64).tolist()):
        near = [place for at in (cell - 1, cell, cell + 1) for place in by_cell.get(at, ())]
        if row >= len(own):
            if holds(vectors[near], vectors[row]):
                continue
            kept.append(row)
        by_cell.setdefault(cell, []).append(row)
    return vectors[kept]


def holds(vectors: np.ndarray, vector: np.ndarray) -> bool:
    """True if one of the vectors [m d] is this one, up to rounding."""
    return bool((np.abs(vectors - vector).max(axis=1) <= SAME).any())


def checked_vectors(vectors: np.ndarray, dim: int) -> np.ndarray:
    """Vectors as float32 ``[n d]``.

    Raises:
        ValueError: if they are not finite, not of length 1, or of another dimension.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise ValueError(f"vectors are {list(vectors.shape)}, and this gallery's are [n, {dim}]; give its bundle's")
    lengths = np.linalg.norm(vectors, axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) < _LENGTH_TOLERANCE))  # also where a length is NaN
    if len(wrong):
        raise ValueError(f"vector {wrong[0]} has length {lengths[wrong[0]]:.3g}, not 1; divide each by its length")
    return vectors
