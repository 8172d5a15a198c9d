"""Smaller precisions of a bundle, made from the graph in float32 and kept only if they pass the gate."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from export.bundle import MODEL_FILES
from export.gate import GATE_ROWS, PrecisionGate, report_lines
from export.golden import write_golden_outputs
from export.half import to_half
from export.parity import ParityError
from export.predictor import flat_feed
from export.quantize import applicable_recipes, to_int8
from export.rows import input_columns, spread_rows
from export.session import open_session, run_session
from multimodal.decoding import Decoding
from multimodal.records import Records
from multimodal.run import Run
from multimodal.runtime.files import write_atomically

CALIBRATION_ROWS = 128
"""Number of records, spread over their table, that give int8 the ranges of its activations."""


def wanted_precisions(precision: str | Iterable[str]) -> list[str]:
    """Precisions of a bundle: float32, then the others that are asked for, each once.

    >>> wanted_precisions("int8"), wanted_precisions(["fp16", "fp32", "fp16"])
    (['fp32', 'int8'], ['fp32', 'fp16'])

    Raises:
        ValueError: if one is unknown.
    """
    given = [precision] if isinstance(precision, str) else list(precision)
    for name in given:
        if name not in MODEL_FILES:
            raise ValueError(f"precision is {name!r}; give {', '.join(MODEL_FILES)}, or several of them")
    return list(dict.fromkeys(["fp32", *given]))


class PrecisionMaker:
    """Makes the other precisions of the graph in a bundle's folder.

    Args:
        folder: of the bundle, with the graph in float32 and its golden records.
        decodings: of the tasks in the graph.
        evaluation_records: judge every precision.
        calibrating: give int8 its ranges.

    Raises:
        ValueError: if there are no records to judge on.
    """

    def __init__(
        self,
        folder: Path,
        run: Run,
        decodings: Mapping[str, Decoding],
        *,
        evaluation_records: Records | None,
        calibrating: Records | None,
    ) -> None:
        if evaluation_records is None or not len(evaluation_records):
            raise ValueError(
                "a smaller precision is judged on validation records, and the run has no validation table that is "
                "still as it was; give records with known values (records=, --data FILE), or export fp32 alone"
            )
        self.folder = folder
        self.graph = onnx.load(folder / MODEL_FILES["fp32"])
        self.readers, self.calibrating = run.readers, calibrating
        rows = spread_rows(run.readers, evaluation_records, GATE_ROWS)
        self.gate = PrecisionGate(folder / MODEL_FILES["fp32"], rows, decodings, run.targets)

    def add(self, precision: str) -> dict[str, Any]:
        """Writes the graph in that precision and its golden outputs; returns the gate's report.

        Raises:
            ParityError: if no way to make it passes the gate.
            ValueError: if it cannot be made of this graph, or int8 has no records to calibrate it on.
        """
        attempts: list[dict[str, Any]] = []
        for recipe, content, calibration in self._candidates(precision):
            report = {"recipe": recipe, **calibration, **self.gate.report(precision, content)}
            if report["passed"]:
                self._write(precision, content)
                digest = hashlib.sha256(content).hexdigest()
                return {**report, "refused": attempts, "sha256": digest}
            attempts.append(report)
        lines = [line for report in attempts for line in (f"{precision}, {report['recipe']}:", *report_lines(report))]
        raise ParityError(
            f"the graph in {precision} loses too much, so nothing was written; leave {precision} out, or train longer: "
            "near the borders between classes a small change decides\n" + "\n".join(lines),
            {"attempts": attempts},
        )

    def _candidates(self, precision: str) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
        """Recipe, graph, and the report of its calibration."""
        if precision == "fp16":
            yield "all but wide ranges", to_half(self.graph).SerializeToString(deterministic=True), {}
            return
        recipes = applicable_recipes(self.graph)
        if not recipes:
            raise ValueError(
                "this graph has neither convolutions nor large matrix products, so int8 would change nothing; "
                "export fp32"
            )
        for recipe in recipes:
            counts: list[int] = []
            content = to_int8(self.graph, recipe, self._feeds(counts))
            source = None if self.calibrating is None else self.calibrating.source
            report = {"calibration": {"source": source, "count": sum(counts)}} if counts else {}
            yield recipe.name, content, report

    def _feeds(self, counts: list[int]) -> Iterator[dict[str, np.ndarray]]:
        """Calibration feeds of int8, batch by batch, each read when it is asked for; their sizes go to ``counts``."""
        if self.calibrating is None:
            raise ValueError(
                "int8 takes the ranges of its activations from training records, and the run's training table has "
                "changed, or never was a file; give ordinary records (calibration=, --calibration FILE), or export "
                "fp32 or fp16"
            )
        for places, batch in spread_rows(self.readers, self.calibrating, CALIBRATION_ROWS).batches(16):
            counts.append(len(places))
            yield flat_feed(batch)
        if not counts:
            raise ValueError(
                f"none of the calibration records ({self.calibrating.source}) can be read as the inputs "
                f"{input_columns(self.readers)}; give others"
            )

    def _write(self, precision: str, content: bytes) -> None:
        write_atomically(self.folder / MODEL_FILES[precision], content)
        files = (self.folder / "golden" / "inputs").glob("*.npy")
        feed = {file.name.removesuffix(".npy"): np.load(file, allow_pickle=False) for file in files}
        write_golden_outputs(self.folder / "golden", precision, run_session(open_session(content, device="cpu"), feed))
