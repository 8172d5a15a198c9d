"""Nearest products of a vector: exact, or by faiss among very many. Never imports torch."""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from export.gallery.contents import Contents
from multimodal.metrics.ranking import unit_rows

IndexName = Literal["exact", "faiss"]
_CELLS_AT_A_TIME = 16_000_000  # 64 MB of similarities
_NEIGHBOURS, _EFFORT = 32, 128  # links of a vector in the graph, and candidates of a search: usual values of HNSW


class ExactIndex:
    """Comparison with the mean direction of every product: one matrix product.

    Of a few photos the nearest class mean is steadier than the nearest single one (``benchmarks/gallery.md``).

    When not to use: where a product has looks that have nothing in common; enrol each under a label of its own.

    Args:
        contents: with at least one product.
    """

    def __init__(self, contents: Contents) -> None:
        self.contents, self.directions = contents, mean_directions(contents)

    def similarities(self, queries: np.ndarray) -> np.ndarray:
        """Cosine of each query to each product, [q p]."""
        return queries @ self.directions.T

    def nearest(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Similarities and places in ``labels`` of the k nearest products of each query ``[q d]``, both [q k]."""
        parts = [_highest(self.similarities(part), k) for _, part in chunks(queries, len(self.directions))]
        similarities, places = zip(*parts, strict=True)
        return np.concatenate(similarities), np.concatenate(places)


class FaissIndex:
    """Search along a graph of neighbours: fast among millions, and a product may be missed.

    Malkov and Yashunin (2018), https://arxiv.org/abs/1603.09320, as faiss has it, over the same mean directions.

    When not to use: below some 100,000 products: comparing all is fast enough then, and exact; and building the graph
    takes longer than reading the gallery.

    Args:
        contents: with at least one product.

    Raises:
        ModuleNotFoundError: if faiss is not installed.
    """

    def __init__(self, contents: Contents) -> None:
        try:
            import faiss
        except ModuleNotFoundError as error:
            line = "faiss is not installed; run: pip install 'multimodal-transfer[faiss]', or take index='exact'"
            raise ModuleNotFoundError(line, name="faiss") from error
        self.graph = faiss.IndexHNSWFlat(contents.source.dim, _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        self.graph.add(mean_directions(contents))

    def nearest(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Same as ``ExactIndex`` gives; fewer where the walk finds no more."""
        self.graph.hnsw.efSearch = max(_EFFORT, k)
        similarities, places = self.graph.search(queries, k)
        found = int((places >= 0).all(axis=0).sum())  # -1 where the walk found no more, always at the end
        return similarities[:, :found], places[:, :found]


Index = ExactIndex | FaissIndex


def mean_directions(contents: Contents) -> np.ndarray:
    """Mean direction of each product's vectors, float32 [p d] of length 1."""
    return unit_rows(np.add.reduceat(contents.vectors, contents.starts, axis=0))


def _highest(similarities: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k highest values of each row in descending order, and their places."""
    lower = similarities.shape[1] - k
    places = np.argpartition(similarities, lower, axis=1)[:, lower:]
    order = np.argsort(-np.take_along_axis(similarities, places, axis=1), axis=1, kind="stable")
    places = np.take_along_axis(places, order, axis=1)
    return np.take_along_axis(similarities, places, axis=1), places


def chunks(queries: np.ndarray, rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Places of queries, and the queries, in parts whose similarities to ``rows`` vectors fit into memory."""
    at_a_time = max(1, _CELLS_AT_A_TIME // max(1, rows))
    for start in range(0, len(queries), at_a_time):
        places = np.arange(start, min(start + at_a_time, len(queries)))
        yield places, queries[places]


def open_index(contents: Contents, name: IndexName) -> Index:
    """Index over a gallery's vectors.

    Raises:
        ValueError: if there is no index of that name.
    """
    if name not in ("exact", "faiss"):
        raise ValueError(f"index is {name!r}; give 'exact', or 'faiss' for hundreds of thousands of vectors")
    return ExactIndex(contents) if name == "exact" else FaissIndex(contents)
