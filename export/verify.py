"""Checks that a bundle is complete and gives the same outputs as where it was written. Never imports torch."""

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from export.bundle import PARITY_FILE, Bundle, BundleError
from export.bundle_folder import read_bundle
from export.golden import golden_predictions, read_golden, read_golden_outputs
from export.golden_media import media_problems
from export.loading import load_decoding, load_input, load_session
from export.parity import fp32_limit, largest_difference, own_limit
from export.session import run_session


def verify_bundle(folder: str | Path, *, threads: int | None = None, allow_plugins: Collection[str] = ()) -> list[str]:
    """Problems of a bundle, one line each; empty if there are none.

    Sizes and hashes are checked first, then the parity report, then the golden records go through onnxruntime on
    the CPU; preprocessors and decodings are opened. Where the bundle holds the records' raw values, these are
    preprocessed again.

    Args:
        allow_plugins: as ``Predictor.load`` takes them; a bundle that needs others is refused here as there.

    >>> verify_bundle("no/such/folder")
    ['no/such/folder is no folder; give that of a bundle, as `multimodal export` writes it']
    """
    try:
        bundle = read_bundle(folder)
        return [*_parity_problems(bundle), *_golden_problems(bundle, threads, allow_plugins)]
    except BundleError as error:
        return [str(error)]


def _parity_problems(bundle: Bundle) -> list[str]:
    if PARITY_FILE not in bundle.files:
        return [f"{bundle.folder}: {PARITY_FILE} is missing, so nothing shows that it agrees with torch; export again"]
    content = bundle.read_json(PARITY_FILE)
    reports = content.get("models") if isinstance(content, dict) else None
    problems = []
    for file in bundle.models.values():
        report: Any = reports.get(file) if isinstance(reports, dict) else None
        report = report if isinstance(report, dict) else {}
        if report.get("passed") is not True:
            problems.append(f"{bundle.folder}: {PARITY_FILE} does not say that {file} passed; export it again")
        elif report.get("sha256") != bundle.files[file].sha256:
            problems.append(f"{bundle.folder}: {PARITY_FILE} is about another {file}; export it again")
    return problems


def _golden_problems(bundle: Bundle, threads: int | None, allow_plugins: Collection[str]) -> list[str]:
    feed, outputs, predictions = read_golden(bundle)
    absent = [name for name in bundle.outputs if name not in outputs]
    absent += [task for task in bundle.tasks if task not in predictions]
    if absent:
        raise BundleError(f"{bundle.folder}: its golden records have no {', '.join(absent)}; export it again")
    problems: list[str] = []
    for precision in bundle.models:
        expected = outputs if precision == "fp32" else read_golden_outputs(bundle, precision)
        problems += _differences(bundle, precision, feed, expected, threads)
    preprocessors = {name: load_input(bundle, name, allow_plugins) for name in bundle.inputs}
    problems += media_problems(bundle, feed, preprocessors)
    for task in bundle.tasks:
        if outputs[task].ndim < 2:
            continue  # a difference, which is reported
        decoding = load_decoding(bundle, task, outputs[task].shape[1:], allow_plugins)
        if not _same(golden_predictions(decoding, outputs[task]), predictions[task]):
            problems.append(f"{bundle.folder}: {task} of the golden records is decoded differently; export again")
    return problems


def _differences(
    bundle: Bundle,
    precision: str,
    feed: dict[str, np.ndarray],
    expected: dict[str, np.ndarray],
    threads: int | None,
) -> Iterator[str]:
    """Differences: of float32 from torch, of a smaller precision from itself where it passed the gate."""
    session = load_session(bundle, bundle.path(bundle.models[precision]), device="cpu", threads=threads)
    try:
        found = run_session(session, feed)
    except Exception as error:  # onnxruntime's own have no base class in common
        raise BundleError(f"{bundle.folder}: its golden records cannot be run ({error}); export it again") from error
    for name, actual in found.items():
        wanted = expected.get(name, np.empty(0))
        difference = largest_difference(actual, wanted)
        limit = fp32_limit(wanted) if precision == "fp32" else own_limit(precision, wanted)
        if difference > limit:
            label = name if precision == "fp32" else f"{name} ({precision})"
            yield (
                f"{bundle.folder}: {label} of the golden records differs by {difference:.2g}, and {limit:.2g} is "
                "allowed; this onnxruntime or this machine computes something differently"
            )


def _same(left: Any, right: Any) -> bool:
    """True for equal JSON, up to the last digits of numbers."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(_same(*pair) for pair in zip(left, right, strict=True))
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=1e-6, abs_tol=1e-9)
    return bool(left == right)
