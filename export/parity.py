"""Comparison of raw outputs: the graph in onnxruntime against its reference, within limits. Never imports torch."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from encoders.preprocessing import Arrays
from export.predictor import flat_feed
from export.samples import Length, synthetic_samples
from export.session import open_session, run_session
from multimodal.inference.sources import Sample
from multimodal.records import InputReader, stack_inputs
from multimodal.task_types import PADDING

FP32_TOLERANCE = 1e-4
"""Largest absolute difference of raw outputs in float32, on the CPU."""
_RELATIVE = 1e-5  # beyond a magnitude of 10 float32 itself is coarser: it has seven digits, and sums lose some
_OWN_OUTPUTS = {"fp16": 0.01, "int8": 0.05}

BATCH_SIZES = (1, 2, 5, 32)
ALL_SUBSETS_UP_TO = 4
"""Number of inputs up to which every combination is tried; else each alone, pairs, all but one, all."""
LEAST_STD = 1e-6
"""Over records, of at least one value per output; below it the comparison would prove nothing."""

Batch = dict[str, Arrays]
"""Input -> its arrays and ``present``, as ``stack_inputs`` gives them."""


class ParityError(RuntimeError):
    """Outputs that differ from their reference by more than the limit; ``report`` says where."""

    def __init__(self, message: str, report: dict[str, Any]) -> None:
        super().__init__(message)
        self.report = report


@dataclass(frozen=True)
class Case:
    """Batch to compare on."""

    name: str
    batch: Batch
    varied: bool = False
    """True if its records differ enough that every output must vary over them."""


def check_parity(
    reference: Callable[[Batch], dict[str, np.ndarray]],
    onnx_file: Path,
    readers: Mapping[str, InputReader],
    *,
    records: Batch | None = None,
) -> dict[str, Any]:
    """Compares raw outputs of a reference and of onnxruntime, both in float32 on the CPU.

    On synthetic records (batches of 1, 2, 5 and 32; the shortest and the longest texts and clips; every combination
    of inputs) and on real ones where they are given.

    Args:
        reference: batch -> every output ``[b c]`` by name; ``run_torch`` of the exported model.
        records: preprocessed real records.

    Returns:
        The report, JSON: for every case its sizes and the largest absolute difference of every output.

    Raises:
        ParityError: if an output differs by more than ``fp32_limit``, or is the same for all records, so that
            the comparison proves nothing.
    """
    cases = list(parity_cases(readers))
    if records is not None:
        cases.append(Case("records", records, varied=len(next(iter(records.values()))["present"]) > 1))
    session = open_session(onnx_file, device="cpu")
    reports, deviations = [], {output.name: 0.0 for output in session.get_outputs()}
    for case in cases:
        expected = reference(case.batch)
        reports.append(_report(case, run_session(session, flat_feed(case.batch)), expected))
        if case.varied:
            for name, values in expected.items():
                deviations[name] = max(deviations[name], float(values.std(axis=0).max(initial=0.0)))
    report = {
        "precision": "fp32",
        "tolerance": FP32_TOLERANCE,
        "passed": all(case["passed"] for case in reports),
        "outputs": {
            name: {"max_abs": max(case["max_abs"][name] for case in reports), "std": std}
            for name, std in deviations.items()
        },
        "cases": reports,
    }
    _refuse(report)
    return report


def parity_cases(readers: Mapping[str, InputReader]) -> Iterator[Case]:
    """Batches of synthetic records."""
    rng = np.random.default_rng(0)
    every = tuple(readers)
    for size in BATCH_SIZES:
        yield Case(f"batch of {size}", _batch(readers, [every] * size, ["middle"] * size, rng), size > 2)
    for length in ("short", "long"):
        yield Case(f"{length}est values", _batch(readers, [every] * 2, [length] * 2, rng))
    subsets = compared_subsets(every)
    for subset in subsets:
        yield Case(f"only {'+'.join(subset)}", _batch(readers, [subset] * 2, ["middle", "short"], rng))
    yield Case("mixed", _batch(readers, subsets, ["middle"] * len(subsets), rng))


def synthetic_batch(readers: Mapping[str, InputReader], size: int) -> Batch:
    """A batch of synthetic records that have every input."""
    return _batch(readers, [tuple(readers)] * size, ["middle"] * size, np.random.default_rng(1))


def compared_subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Combinations of inputs to try: all of them, or of many inputs a selection."""
    sizes = list(range(1, len(names) + 1))
    if len(names) > ALL_SUBSETS_UP_TO:
        sizes = [1, 2, len(names) - 1, len(names)]
    return [subset for size in sizes for subset in combinations(names, size)]


def largest_difference(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute difference; infinite where shapes differ or a value is not finite.

    >>> largest_difference(np.array([1.0, 2.0]), np.array([1.0, 2.5]))
    0.5
    """
    if actual.shape != expected.shape or not (np.isfinite(actual).all() and np.isfinite(expected).all()):
        return math.inf
    return float(np.abs(actual.astype(np.float64) - expected).max(initial=0.0))


def largest_magnitude(outputs: np.ndarray) -> float:
    """Largest absolute output that is no padding.

    >>> largest_magnitude(np.array([[1.0, -3.0], [-1e4, -1e4]]))
    3.0
    """
    return float(np.abs(outputs[outputs != PADDING]).max(initial=0.0))


def fp32_limit(expected: np.ndarray) -> float:
    """Largest difference from ``expected`` that passes.

    >>> fp32_limit(np.array([3.0])), fp32_limit(np.array([-50.0]))
    (0.0001, 0.0005)
    """
    return max(FP32_TOLERANCE, _RELATIVE * largest_magnitude(expected))


def own_limit(precision: str, expected: np.ndarray) -> float:
    """Largest difference to the outputs of the same graph in a smaller precision where it was written.

    A share of the largest output, or of 1 where that is less: machines add up in other orders, and one rounding to
    8 bits that falls the other way moves an output by about one part in 256 of the range.

    >>> own_limit("fp16", np.array([3.0, -20.0])), own_limit("int8", np.array([0.5]))
    (0.2, 0.05)
    """
    return _OWN_OUTPUTS[precision] * max(1.0, largest_magnitude(expected))


def _batch(
    readers: Mapping[str, InputReader],
    subsets: Sequence[tuple[str, ...]],
    lengths: Sequence[Length],
    rng: np.random.Generator,
) -> Batch:
    """One record per subset, with the inputs in it."""
    records: list[Sample] = [{} for _ in subsets]
    for name, reader in readers.items():
        samples = synthetic_samples(reader.preprocessor, rng, lengths)
        for record, sample, subset in zip(records, samples, subsets, strict=True):
            record[name] = (sample, True) if name in subset else (reader.preprocessor.blank(), False)
    return stack_inputs(readers, records)


def _report(case: Case, actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> dict[str, Any]:
    differences = {name: largest_difference(actual[name], values) for name, values in expected.items()}
    return {
        "name": case.name,
        "sizes": {name: list(array.shape) for name, array in flat_feed(case.batch).items()},
        "max_abs": differences,
        "passed": all(differences[name] <= fp32_limit(values) for name, values in expected.items()),
    }


def _refuse(report: dict[str, Any]) -> None:
    failed = [case for case in report["cases"] if not case["passed"]]
    if failed:
        worst = max(failed, key=lambda case: max(case["max_abs"].values()))
        differences = ", ".join(f"{name} {value:.2g}" for name, value in worst["max_abs"].items())
        raise ParityError(
            f"the ONNX graph does not give the outputs of the model: {len(failed)} of {len(report['cases'])} "
            f"comparisons fail, worst with {worst['name']} (largest difference of {differences}; {FP32_TOLERANCE} is "
            "allowed); nothing was written. Look for an operation of the encoder that its graph computes differently",
            report,
        )
    constant = [name for name, output in report["outputs"].items() if output["std"] <= LEAST_STD]
    if constant:
        raise ParityError(
            f"the model gives the same {' and '.join(constant)} for every record, so comparing it proves nothing; "
            "nothing was written. Train it first, or look for weights that are all zero",
            report,
        )
