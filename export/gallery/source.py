"""Source of a gallery's vectors, and rejection of incomparable ones. Never imports torch."""

from dataclasses import dataclass
from pathlib import Path

from export.predictor import Predictor


class GalleryError(ValueError):
    """Gallery that cannot be used, or not with this bundle."""


@dataclass(frozen=True)
class VectorSource:
    """Origin of vectors: those of another source are not comparable."""

    bundle: str
    """Its name."""
    sha256: str
    """Of its graph and preprocessors."""
    output: str
    """Of the graph."""
    dim: int
    precision: str = "fp32"
    """Of the model."""


def source_of(predictor: Predictor, task: str | None = None) -> VectorSource:
    """Source of a bundle's vectors."""
    output = predictor.bundle.vector_output(task)
    bundle, dim = predictor.bundle, predictor.output_dim(output)
    return VectorSource(bundle.name, bundle.vector_digest(), output, dim, predictor.precision)


def check_source(folder: Path, own: VectorSource, given: VectorSource) -> None:
    """Checks that vectors are comparable with a gallery's.

    Raises:
        GalleryError: if their source differs.
    """
    if own.sha256 != given.sha256:
        raise GalleryError(
            f"{folder} holds vectors of another bundle ({own.bundle}, sha256 {own.sha256[:12]}; this one is "
            f"{given.bundle}, {given.sha256[:12]}), which are not comparable; take that bundle, or enrol the "
            "products anew in another folder"
        )
    if own.output != given.output:
        raise GalleryError(
            f"{folder} holds vectors of {own.output!r}, not of {given.output!r}, which are not comparable; leave the "
            "task out, or enrol the products anew in another folder"
        )
    if own.precision != given.precision:
        raise GalleryError(
            f"{folder} holds vectors in {own.precision}, and the bundle runs in {given.precision}, which is "
            f"close but not what thresholds were chosen by; load it with precision={own.precision!r}, or enrol the "
            "products anew in another folder"
        )
