"""The gate that every export passes: the graph answers in onnxruntime as the model does in torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from encoders.preprocessing import Arrays, Preprocessor
from export.predictor import flat_feed
from export.samples import Length, synthetic_samples
from export.session import open_session
from export.tolerance import FP32_TOLERANCE, fp32_limit, largest_difference
from multimodal.decoding import EMBEDDING
from multimodal.evaluation import run_torch
from multimodal.model import MultimodalModel
from multimodal.records import InputReader

BATCH_SIZES = (1, 2, 5, 32)
ALL_SUBSETS_UP_TO = 4
"""Inputs of which every combination is tried; of more: each alone, pairs, all but one, all."""
LEAST_STD = 1e-6
"""Over records, of at least one value of each output; below it the comparison would prove nothing."""

Batch = dict[str, Arrays]
"""Input -> its arrays and ``present``, as ``stack_inputs`` gives them."""


class ParityError(RuntimeError):
    """The graph does not answer as the model does; ``report`` says where."""

    def __init__(self, message: str, report: dict[str, Any]) -> None:
        super().__init__(message)
        self.report = report


@dataclass(frozen=True)
class Case:
    """One batch to compare on."""

    name: str
    batch: Batch
    varied: bool = False
    """Whether its records differ enough that every output must vary over them."""


def check_parity(
    model: MultimodalModel, onnx_file: Path, *, embedding: bool = False, records: Batch | None = None
) -> dict[str, Any]:
    """Compares raw outputs of torch and onnxruntime, both in float32 on the CPU.

    On invented records (batches of 1, 2, 5 and 32; the shortest and the longest texts and sounds; every
    combination of inputs) and on real ones where they are given.

    Args:
        embedding: whether the graph has that output.
        records: preprocessed real records.

    Returns:
        The report, JSON: for every case its sizes and the largest absolute difference of every output.

    Raises:
        ParityError: if an output differs by more than ``fp32_limit``, or is the same for all records, so that
            nothing was shown.
    """
    preprocessors = {name: model.encoder(name).preprocessor for name in model.input_names}
    cases = list(parity_cases(preprocessors))
    if records is not None:
        cases.append(Case("records", records, varied=len(records[model.input_names[0]]["present"]) > 1))
    session = open_session(onnx_file, device="cpu")
    reports, deviations = [], dict.fromkeys([*model.heads, *([EMBEDDING] if embedding else [])], 0.0)
    for case in cases:
        expected = run_torch(model, case.batch, embedding=embedding)
        names = list(expected)
        actual = dict(zip(names, session.run(names, flat_feed(case.batch)), strict=True))
        reports.append(_report(case, actual, expected))
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


def parity_cases(preprocessors: Mapping[str, Preprocessor]) -> Iterator[Case]:
    """The batches of invented records."""
    rng = np.random.default_rng(0)
    every = tuple(preprocessors)
    for size in BATCH_SIZES:
        yield Case(f"batch of {size}", _batch(preprocessors, [every] * size, ["middle"] * size, rng), size > 2)
    for length in ("short", "long"):
        yield Case(f"{length}est values", _batch(preprocessors, [every] * 2, [length] * 2, rng))
    subsets = input_subsets(every)
    for subset in subsets:
        yield Case(f"only {'+'.join(subset)}", _batch(preprocessors, [subset] * 2, ["middle", "short"], rng))
    yield Case("mixed", _batch(preprocessors, subsets, ["middle"] * len(subsets), rng))


def synthetic_batch(readers: Mapping[str, InputReader], size: int) -> Batch:
    """A batch of invented records that have every input."""
    preprocessors = {name: reader.preprocessor for name, reader in readers.items()}
    return _batch(preprocessors, [tuple(readers)] * size, ["middle"] * size, np.random.default_rng(1))


def input_subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Combinations of inputs to try: all of them, or of many inputs a choice."""
    sizes = list(range(1, len(names) + 1))
    if len(names) > ALL_SUBSETS_UP_TO:
        sizes = [1, 2, len(names) - 1, len(names)]
    return [subset for size in sizes for subset in combinations(names, size)]


def _batch(
    preprocessors: Mapping[str, Preprocessor],
    subsets: Sequence[tuple[str, ...]],
    lengths: Sequence[Length],
    rng: np.random.Generator,
) -> Batch:
    """One record per subset, with the inputs in it."""
    batch = {}
    for name, preprocessor in preprocessors.items():
        present = np.array([name in subset for subset in subsets])
        samples = synthetic_samples(preprocessor, rng, lengths)
        rows = [sample if here else preprocessor.blank() for sample, here in zip(samples, present, strict=True)]
        batch[name] = {**preprocessor.stack(rows), "present": present}
    return batch


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
            f"the ONNX graph does not answer as the model does: {len(failed)} of {len(report['cases'])} comparisons "
            f"fail, worst with {worst['name']} (largest difference of {differences}; {FP32_TOLERANCE} is allowed); "
            "nothing was written. Look for an operation of the encoder that its graph computes differently",
            report,
        )
    constant = [name for name, output in report["outputs"].items() if output["std"] <= LEAST_STD]
    if constant:
        raise ParityError(
            f"the model gives the same {' and '.join(constant)} for every record, so comparing it proves nothing; "
            "nothing was written. Train it first, or look for weights that are all zero",
            report,
        )
