"""Gate of the smaller precisions: predictions and metrics of real records stay what they are in float32."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from export.parity import largest_difference, parity_cases
from export.predictor import flat_feed
from export.rows import RealRows
from export.session import open_session, run_session
from multimodal.decoding import Decoding, Embedding
from multimodal.metrics import task_metrics
from multimodal.records.targets import TargetReader, read_truth
from multimodal.task_types import join_outputs

GATE_ROWS = 1000
"""Largest number of records that are compared."""
FEW_ROWS = 500
"""Fewer records make the limits coarse, which the report says."""


@dataclass(frozen=True)
class GateLimits:
    """Largest change that a precision may cause."""

    disagreeing: float
    """Share of records whose prediction may differ; one always may."""
    points: float
    """Share of records by which a task's metric may fall."""
    rows: int
    """Records by which it may fall, if that is more."""
    value: float
    """Regression: largest difference of equal values, in standard deviations of the training values."""
    cosine: float
    """Embeddings: smallest cosine of equal vectors."""


LIMITS = {
    "fp16": GateLimits(disagreeing=0.001, points=0.001, rows=1, value=0.01, cosine=0.999),
    "int8": GateLimits(disagreeing=0.02, points=0.005, rows=2, value=0.1, cosine=0.98),
}


class PrecisionGate:
    """Outputs of the graph in float32 for the evaluation records, to compare other precisions with."""

    def __init__(
        self, model: Path, rows: RealRows, decodings: Mapping[str, Decoding], targets: Mapping[str, TargetReader]
    ) -> None:
        self.rows, self.decodings, self.targets = rows, decodings, targets
        self.reference = open_session(model, device="cpu")
        self.places, self.expected = run_rows(self.reference, rows)

    def report(self, precision: str, model: bytes | Path) -> dict[str, Any]:
        """Comparison of the graph in another precision, as JSON, with ``passed``."""
        limits = LIMITS[precision]
        session = open_session(model, device="cpu")
        _, actual = run_rows(session, self.rows)
        agreement = {name: self._agreement(name, actual[name], limits) for name in self.expected}
        metrics = {task: self._metric(task, actual[task], limits) for task in self.decodings}
        cases = [self._case(session, case.name, flat_feed(case.batch)) for case in parity_cases(self.rows.readers)]
        parts = (*agreement.values(), *metrics.values(), *cases)
        return {
            "precision": precision,
            "passed": all(part["passed"] for part in parts),
            "rows": {
                "source": self.rows.records.source,
                "count": len(self.places),
                "unreadable": len(self.rows.records) - len(self.places),
                "numbers": [self.rows.records.number(place) for place in self.places],
            },
            "agreement": agreement,
            "metrics": metrics,
            "outputs": {
                name: {"max_abs": largest_difference(actual[name], values)} for name, values in self.expected.items()
            },
            "cases": cases,
        }

    def _agreement(self, name: str, actual: np.ndarray, limits: GateLimits) -> dict[str, Any]:
        same = _same_predictions(self.decodings.get(name), actual, self.expected[name], limits)
        differing, allowed = int((~same).sum()), max(1, int(limits.disagreeing * len(same)))
        return {"rows": len(same), "differing": differing, "allowed": allowed, "passed": differing <= allowed}

    def _metric(self, task: str, actual: np.ndarray, limits: GateLimits) -> dict[str, Any]:
        truth = read_truth(self.targets[task], self.rows.records, self.places)
        if not len(truth.rows):
            return {"rows": 0, "reason": "no record has a known value", "passed": False}
        at = np.searchsorted(self.places, truth.rows)
        if not np.isfinite(actual[at]).all():
            return {"rows": len(at), "reason": "an output is not finite", "passed": False}
        before, after = (
            task_metrics(self.decodings[task], outputs[at], truth.targets, unknown=truth.unknown)
            for outputs in (self.expected[task], actual)
        )
        name = self.decodings[task].headline
        values = before[name]["value"], after[name]["value"]
        if values[0] is None or values[1] is None:
            return {"rows": len(at), "reason": f"these records do not define {name}", "passed": False}
        allowed = limits.points if name == "r2" else max(limits.points, limits.rows / len(at))
        loss = values[0] - values[1]
        passed = loss <= allowed + 1e-9  # of one row exactly, a division rounds
        return {
            "metric": name, "rows": len(at), "fp32": values[0], "value": values[1], "loss": loss, "allowed": allowed,
            "passed": passed,
        }  # fmt: skip

    def _case(self, session: ort.InferenceSession, name: str, feed: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Synthetic records of every size, length and combination: outputs of the right shape, and finite."""
        actual, expected = run_session(session, feed), run_session(self.reference, feed)
        differences = {output: largest_difference(actual[output], values) for output, values in expected.items()}
        return {"name": name, "max_abs": differences, "passed": bool(np.isfinite(list(differences.values())).all())}


def run_rows(session: ort.InferenceSession, rows: RealRows) -> tuple[list[int], dict[str, np.ndarray]]:
    """Places of the records that could be read, and every output over them."""
    places: list[int] = []
    parts: list[dict[str, np.ndarray]] = []
    for numbers, batch in rows.batches():
        places += numbers
        parts.append(run_session(session, flat_feed(batch)))
    names = [output.name for output in session.get_outputs()]
    return places, {name: join_outputs([part[name] for part in parts]) for name in names}


def report_lines(report: Mapping[str, Any]) -> Iterable[str]:
    """Report as text, one line per task."""
    precision, rows = report["precision"], report["rows"]
    left_out = f" ({rows['unreadable']} could not be read)" if rows["unreadable"] else ""
    yield f"{precision}: compared with fp32 on {rows['count']} records of {rows['source']}{left_out}"
    if rows["count"] < FEW_ROWS:
        yield f"{precision}: fewer than {FEW_ROWS} records show little; give more with known values by --data FILE"
    for name, part in report["agreement"].items():
        yield (
            f"{precision}: {name}: {part['differing']} of {part['rows']} predictions differ, {part['allowed']} may: "
            f"{_word(part)}"
        )
    for name, part in report["metrics"].items():
        if "metric" in part:
            yield (
                f"{precision}: {name}: {part['metric']} {part['fp32']:.4f} in fp32, {part['value']:.4f} now, "
                f"{part['allowed']:.4f} may be lost, on {part['rows']} known values: {_word(part)}"
            )
        else:
            yield f"{precision}: {name}: {part['reason']}: {_word(part)}"
    failed = [case["name"] for case in report["cases"] if not case["passed"]]
    if failed:
        yield f"{precision}: not finite on synthetic records ({', '.join(failed)}): rejected"


def _word(part: Mapping[str, Any]) -> str:
    return "passed" if part["passed"] else "rejected"


def _same_predictions(
    decoding: Decoding | None, actual: np.ndarray, expected: np.ndarray, limits: GateLimits
) -> np.ndarray:
    """Mask of the records with equal predictions, bool [n]; the fused vector has no decoding."""
    finite = np.isfinite(actual).reshape(len(actual), -1).all(axis=1)
    actual = np.where(finite.reshape(-1, *[1] * (actual.ndim - 1)), actual, 0.0)
    return finite & (Embedding() if decoding is None else decoding).agree(actual, expected, limits)
