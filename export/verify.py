"""Whether a bundle is whole and answers here as it did where it was written. Never imports torch."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from export.bundle import PARITY_FILE, Bundle, BundleError, read_bundle
from export.golden import golden_answers, read_golden
from export.golden_media import media_problems
from export.predictor import load_decoding, load_session, model_file
from export.tolerance import fp32_limit, largest_difference


def verify_bundle(folder: str | Path, *, threads: int | None = None) -> list[str]:
    """What is wrong with a bundle, one line each; empty where all is well.

    Sizes and hashes are checked first, then the parity report, then the golden records go through onnxruntime on
    the CPU. Where the bundle holds their raw values, these are preprocessed again. No plug-in is loaded.

    >>> verify_bundle("no/such/folder")
    ['no/such/folder is not a bundle: it has no bundle.json, which an export writes last; export it again']
    """
    try:
        bundle = read_bundle(folder)
        return [*_parity_problems(bundle), *_golden_problems(bundle, threads)]
    except BundleError as error:
        return [str(error)]


def _parity_problems(bundle: Bundle) -> list[str]:
    if PARITY_FILE not in bundle.files:
        return [f"{bundle.folder}: {PARITY_FILE} is missing, so nothing shows that it answers as torch; export again"]
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


def _golden_problems(bundle: Bundle, threads: int | None) -> list[str]:
    feed, outputs, answers = read_golden(bundle)
    session = load_session(bundle, model_file(bundle), device="cpu", threads=threads)
    names = [output.name for output in session.get_outputs()]
    absent = [name for name in names if name not in outputs] + [task for task in bundle.tasks if task not in answers]
    if absent:
        raise BundleError(f"{bundle.folder}: its golden records lack {', '.join(absent)}; export it again")
    try:
        actual = dict(zip(names, session.run(names, feed), strict=True))
    except Exception as error:  # onnxruntime's own have no base class in common
        raise BundleError(f"{bundle.folder}: its golden records cannot be run ({error}); export it again") from error
    problems = list(media_problems(bundle, feed))
    for name in names:
        expected = outputs.get(name, np.empty(0))
        difference, limit = largest_difference(actual[name], expected), fp32_limit(expected)
        if difference > limit:
            problems.append(
                f"{bundle.folder}: {name} of the golden records differs by {difference:.2g}, and {limit:.2g} is "
                "allowed; this onnxruntime or this machine computes something differently"
            )
    for task in bundle.tasks:
        decoded = golden_answers(load_decoding(bundle, task), outputs[task])
        if not _same(decoded, answers[task]):
            problems.append(f"{bundle.folder}: {task} of the golden records is decoded to other answers; export again")
    return problems


def _same(left: Any, right: Any) -> bool:
    """Equal JSON, but for the last digits of numbers."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(_same(*pair) for pair in zip(left, right, strict=True))
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=1e-6, abs_tol=1e-9)
    return bool(left == right)
