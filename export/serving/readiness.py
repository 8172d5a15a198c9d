"""Bundles that are verified on the device that will serve them."""

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

from export.bundle import BundleError
from export.golden import golden_predictions, read_golden
from export.predictor import Predictor
from export.verify import verify_bundle


def load_verified(
    folder: Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    allow_plugins: Collection[str] = (),
) -> Predictor:
    """Loads a bundle, as ``Predictor.load``, after verifying it and the labels of its golden records.

    Raises:
        BundleError: for the first problem.
        ValueError: if the bundle has no such precision.
    """
    problems = verify_bundle(folder, threads=threads, allow_plugins=allow_plugins)
    if problems:
        raise BundleError("; ".join(problems))
    predictor = Predictor.load(folder, device=device, precision=precision, threads=threads, allow_plugins=allow_plugins)
    feed, _, predictions = read_golden(predictor.bundle)
    outputs = predictor.run(feed)
    for task, decoding in predictor.decodings.items():
        found = golden_predictions(decoding, outputs[task])
        if _without_numbers(found) != _without_numbers(predictions[task]):
            raise BundleError(
                f"{folder}: {task} of the golden records has other labels in {predictor.precision} on "
                f"{predictor.device}; serve it with another --device or --precision, or export it again"
            )
    return predictor


def _without_numbers(content: Any) -> Any:
    """JSON without its floats, which differ between devices and precisions."""
    if isinstance(content, dict):
        return {key: _without_numbers(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_numbers(value) for value in content]
    return None if isinstance(content, float) else content


def loader(
    *, device: str, precision: str = "auto", threads: int | None, allow_plugins: Collection[str]
) -> Callable[[Path], Predictor]:
    """``load_verified`` with these arguments."""
    return partial(load_verified, device=device, precision=precision, threads=threads, allow_plugins=allow_plugins)
