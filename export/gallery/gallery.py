"""Products told apart by a bundle's vectors, enrolled and removed without training. Never imports torch."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from export.gallery.calibration import nearness_of_records, nearness_within
from export.gallery.contents import Contents, checked_vectors
from export.gallery.embedded import embed, embed_labelled
from export.gallery.folder import GALLERY_FILE, locked, read_contents, write_contents
from export.gallery.index import ExactIndex, Index, IndexName, open_index
from export.gallery.refusal import Refusal, choose_refusal
from export.gallery.results import Match, SearchResult
from export.gallery.source import GalleryError, check_source, source_of
from export.predictor import Predictor
from multimodal.inference.batching import OnError
from multimodal.records import RecordError, read_records
from multimodal.runtime.files import refuse_overwriting


@dataclass(frozen=True)
class Added:
    """Change by enrolling."""

    added: int
    """Number of new vectors."""
    repeated: int
    """Number of vectors that their product had already."""
    products: tuple[str, ...]
    """Labels that were not enrolled before."""
    errors: tuple[RecordError, ...] = ()
    """Records that are unreadable, or have no label."""


@dataclass(frozen=True)
class Calibrated:
    """Threshold, and the records that it was not chosen by."""

    refusal: Refusal
    left_out: int = 0
    """Number of records that are enrolled themselves."""
    errors: tuple[RecordError, ...] = ()
    """Records that are unreadable, or have no label."""


class Gallery:
    """Folder of enrolled products; ``Gallery.open`` opens or makes one.

    Searches use the state that was read, until ``refresh`` reads what other processes changed. Changes are made to
    the newest state, whoever made it.

    Args:
        folder: of the gallery.
        predictor: turns records into vectors; None accepts vectors only.
        index: "exact", or "faiss" for hundreds of thousands of vectors.
    """

    def __init__(
        self, folder: Path, contents: Contents, predictor: Predictor | None = None, *, index: IndexName = "exact"
    ) -> None:
        self.folder, self.contents, self.predictor = folder, contents, predictor
        self._index_name: IndexName = index
        self._index: Index | None = None

    @classmethod
    def open(
        cls,
        folder: str | Path,
        bundle: Predictor | str | Path | None = None,
        *,
        task: str | None = None,
        index: IndexName = "exact",
        create: bool = True,
        allow_plugins: Collection[str] = (),
    ) -> "Gallery":
        """Opens a gallery; with a bundle it makes an empty one where there is none, which is written when it changes.

        Args:
            bundle: turns records into vectors: a ``Predictor``, or a bundle's folder, which then runs in float32.
                None accepts vectors only.
            task: whose vectors, where the bundle has several; ``embedding`` for the fused ones.
            create: False rejects a folder without a gallery.
            allow_plugins: of a bundle's folder, as ``Predictor.load`` takes them.

        Raises:
            GalleryError: if there is no gallery, it is damaged, or holds vectors of another bundle or precision.
            LookupError, ValueError: if the bundle gives no such vectors.
            OverwriteError: if the folder lies in the bundle.
        """
        folder = Path(folder)
        if isinstance(bundle, str | Path):
            predictor: Predictor | None = Predictor.load(bundle, precision="fp32", allow_plugins=allow_plugins)
        else:
            predictor = bundle
        if predictor is not None:
            refuse_overwriting("--gallery", folder, [("the bundle", predictor.bundle.folder)])
        is_read = predictor is None or not create or (folder / GALLERY_FILE).is_file()
        contents = read_contents(folder) if is_read else None
        if predictor is not None:
            if task is None and contents is not None and contents.source.sha256 == predictor.bundle.vector_digest():
                task = contents.source.output
            source = source_of(predictor, task)
            contents = Contents.empty(source) if contents is None else contents
            check_source(folder, contents.source, source)
        assert contents is not None  # without a predictor it was read
        return cls(folder, contents, predictor, index=index)

    def __reduce__(self) -> tuple[Any, ...]:  # without the index, which is made again where it is searched
        again = partial(type(self), index=self._index_name)
        return again, (self.folder.absolute(), self.contents, self.predictor)

    @property
    def products(self) -> dict[str, int]:
        """Label -> number of its vectors."""
        return dict(self.contents.products)

    @property
    def refusal(self) -> Refusal | None:
        """Rule that rejects unknown records; None accepts all."""
        return self.contents.refusal

    def refresh(self) -> None:
        """Reads what other processes changed.

        Raises:
            GalleryError: as ``open``.
        """
        contents = read_contents(self.folder)
        check_source(self.folder, contents.source, self.contents.source)
        self._take(contents)

    def add(self, records: Any, label: str, *, batch_size: int = 32, on_error: OnError = "raise") -> Added:
        """Enrols records; one that its product has already changes nothing.

        Args:
            records: a table, as ``read_records`` takes it, with the columns that training used.
            label: its column that names the product.
            batch_size: records at a time.
            on_error: "raise" enrols nothing where a record cannot be used; "return" leaves it out and lists it.

        Raises:
            RecordError: for a record that cannot be read, or has no label.
            ManifestError: if the table has no such columns.
        """
        predictor, table = self._predictor(), read_records(records)
        labels, found = embed_labelled(predictor, table, label, self.contents.source.output, batch_size=batch_size)
        _raise_first(found.errors, on_error)
        return replace(self.add_vectors(labels, found.vectors), errors=found.errors)

    def add_vectors(self, labels: Sequence[str], vectors: np.ndarray) -> Added:
        """Enrols vectors ``[n d]`` of length 1, with a label each.

        Raises:
            ValueError: if their dimension or length is wrong.
        """
        before, after = self._change(lambda contents: contents.with_vectors(labels, vectors))
        added = len(after.vectors) - len(before.vectors)
        new = tuple(product for product in after.products if product not in before.products)
        return Added(added, len(labels) - added, new)

    def remove(self, labels: Collection[str] | str) -> int:
        """Removes products, unknown ones ignored; returns the number of those removed."""
        names = {labels} if isinstance(labels, str) else set(labels)
        before, after = self._change(lambda contents: contents.without(names))
        return len(before.products) - len(after.products)

    def search(
        self, records: Any, *, k: int = 5, batch_size: int = 32, on_error: OnError = "raise"
    ) -> list[SearchResult | RecordError]:
        """Nearest products of each record, in order.

        Args:
            records: as ``Predictor.predict`` takes them.
            k: number of products; fewer if there are no more.
            on_error: "return" puts a RecordError in the place of a record that cannot be used.

        Raises:
            RecordError: for a record that cannot be used.
            GalleryError: if nothing is enrolled.
        """
        found = embed(self._predictor(), records, self.contents.source.output, batch_size=batch_size)
        _raise_first(found.errors, on_error)
        results: dict[int, SearchResult | RecordError] = {error.row: error for error in found.errors}
        nearest = self.search_vectors(found.vectors, k=k)
        for row, missing, result in zip(found.rows, found.missing, nearest, strict=True):
            results[row] = replace(result, missing=missing)
        return [results[row] for row in range(len(results))]

    def search_vectors(self, vectors: np.ndarray, *, k: int = 5) -> list[SearchResult]:
        """The nearest products of each vector ``[n d]`` of length 1.

        Raises:
            GalleryError: if nothing is enrolled.
            ValueError: if the vectors do not fit the gallery, or k is below 1.
        """
        if k < 1:
            raise ValueError(f"k is {k}; give at least 1")
        contents = self.contents
        self._require_products(1, "search")
        queries = checked_vectors(vectors, contents.source.dim)
        if not len(queries):
            return []
        if self._index is None:
            self._index = open_index(contents, self._index_name)
        similarities, places = self._index.nearest(queries, min(k, len(contents.products)))
        least = -np.inf if contents.refusal is None else contents.refusal.threshold
        results = []
        for values, own in zip(similarities.tolist(), places.tolist(), strict=True):
            matches = [Match(contents.labels[place], value) for place, value in zip(own, values, strict=True)]
            results.append(SearchResult(tuple(matches), is_known=values[0] >= least))
        return results

    def calibrate(
        self, records: Any = None, label: str | None = None, *, accept: float = 0.95, on_error: OnError = "raise"
    ) -> Calibrated:
        """Sets the threshold below which a record is rejected, by the rule of ``choose_refusal``.

        Args:
            records: a table of labelled records that are not enrolled themselves; those of products that are not
                enrolled say how well unknown ones are refused, and without any the known ones do, their own product
                hidden. None takes the gallery's own vectors, each left out in turn, which looks better than it is.
            label: the table's column that names the product.
            accept: share of the known records that is to be accepted.

        Raises:
            GalleryError: if there are fewer than two products.
            RecordError: for a record that cannot be read, or has no label.
            ValueError: if there are too few records, or ``accept`` is out of range.
        """
        self._require_products(2, "set a threshold by")
        index = ExactIndex(self.contents)
        errors: tuple[RecordError, ...] = ()
        if records is None:
            nearness = nearness_within(index)
        else:
            if label is None:
                raise ValueError("records are given without the column of their labels; give label=")
            labels, found = embed_labelled(self._predictor(), read_records(records), label, self.contents.source.output)
            _raise_first(found.errors, on_error)
            nearness, errors = nearness_of_records(index, labels, found.vectors), found.errors
        refusal = choose_refusal(nearness.known, nearness.unknown, accept=accept, unknowns=nearness.unknowns)
        self._change(lambda contents: replace(contents, refusal=refusal))
        return Calibrated(refusal, nearness.left_out, errors)

    def _predictor(self) -> Predictor:
        if self.predictor is None:
            raise GalleryError(f"{self.folder} was opened without a bundle; give one: Gallery.open(folder, bundle)")
        return self.predictor

    def _require_products(self, count: int, purpose: str) -> None:
        if len(self.contents.products) < count:
            raise GalleryError(
                f"{self.folder} holds {len(self.contents.products)} products, and {count} are needed to {purpose}; "
                "enrol some with `multimodal gallery add`"
            )

    def _change(self, change: Callable[[Contents], Contents]) -> tuple[Contents, Contents]:
        """Newest state before and after; without a change nothing is written."""
        with locked(self.folder):
            before = Contents.empty(self.contents.source)
            if (self.folder / GALLERY_FILE).is_file():
                before = read_contents(self.folder)
                check_source(self.folder, before.source, self.contents.source)
            after = change(before)
            if after.products != before.products or after.refusal != before.refusal:
                after = replace(after, revision=before.revision + 1)
                write_contents(self.folder, after)
        self._take(after)
        return before, after

    def _take(self, contents: Contents) -> None:
        self.contents, self._index = contents, None


def _raise_first(errors: Sequence[RecordError], on_error: OnError) -> None:
    if on_error not in ("raise", "return"):
        raise ValueError(f"on_error is {on_error!r}; give 'raise' or 'return'")
    if errors and on_error == "raise":
        raise errors[0]
