"""Where a gallery's vectors come from, and refusing those that do not compare. Never imports torch."""

from dataclasses import dataclass
from pathlib import Path

from export.predictor import Predictor


class GalleryError(ValueError):
    """A gallery that cannot be used, or not with this bundle."""


@dataclass(frozen=True)
class VectorSource:
    """What made the vectors: those of another do not compare."""

    bundle: str
    """Its name."""
    sha256: str
    """Of its graph and preprocessors."""
    output: str
    """Of the graph."""
    width: int
    precision: str = "fp32"
    """Of the model that answered."""


def source_of(predictor: Predictor, task: str | None = None) -> VectorSource:
    """What a bundle's vectors are known by."""
    output = predictor.bundle.vector_output(task)
    bundle, width = predictor.bundle, predictor.output_dim(output)
    return VectorSource(bundle.name, bundle.vector_digest(), output, width, predictor.precision)


def check_source(folder: Path, own: VectorSource, given: VectorSource) -> None:
    """Refuses vectors that do not compare with a gallery's.

    Raises:
        GalleryError: says whose they are.
    """
    if own.sha256 != given.sha256:
        raise GalleryError(
            f"{folder} holds vectors of another bundle ({own.bundle}, sha256 {own.sha256[:12]}; this one is "
            f"{given.bundle}, {given.sha256[:12]}), which do not compare; take that bundle, or enrol the products anew "
            "in another folder"
        )
    if own.output != given.output:
        raise GalleryError(
            f"{folder} holds vectors of {own.output!r}, not of {given.output!r}, which do not compare; leave the task "
            "out, or enrol the products anew in another folder"
        )
    if own.precision != given.precision:
        raise GalleryError(
            f"{folder} holds vectors in {own.precision}, and the bundle answers in {given.precision}, which is near "
            f"but not what thresholds were chosen by; load it with precision={own.precision!r}, or enrol the products "
            "anew in another folder"
        )
