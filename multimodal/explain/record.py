"""Explanation of one record: predictions, their causes, neighbours. Never imports torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from multimodal.decoding import EMBEDDING
from multimodal.explain.explanation_target import ExplanationTarget, explanation_target
from multimodal.explain.figures import draw_contributions, draw_neighbors, draw_parts
from multimodal.explain.neighbors import Neighbors
from multimodal.explain.parts import Parts, parts_of
from multimodal.explain.shapley import Contributions, contributions
from multimodal.inference.record_model import RecordModel, Sample
from multimodal.records import Records


@dataclass(frozen=True)
class Explanation:
    """Explanation of a record, as JSON and figures."""

    content: dict[str, Any]
    """JSON."""
    figures: dict[str, Image.Image] = field(default_factory=dict)
    """End of the file's name -> figure, in reading order."""


def explain_record(
    box: RecordModel,
    records: Records,
    row: int,
    *,
    tasks: Sequence[str],
    neighbors: Neighbors | None = None,
    number: int = 0,
) -> Explanation:
    """Explains the predictions of some tasks for one record.

    Args:
        neighbors: training records to search.
        number: of neighbours that are named.

    Raises:
        RecordError: if the record cannot be read.
        ValueError: if it has too many inputs.
    """
    sample = box.read(records, row)
    outputs = box.outputs([sample])
    targets = [
        target for task in tasks if (target := explanation_target(task, box.decodings[task], outputs)) is not None
    ]
    missing = [name for name, (_, present) in sample.items() if not present]
    shares = contributions(box, sample, targets)
    content: dict[str, Any] = {
        "record": records.place(row),
        "inputs": {name: _plain(records[row].get(reader.column)) for name, reader in box.readers.items()},
        "missing": missing,
        "tasks": {
            target.task: _answered(box, target, share, outputs) for target, share in zip(targets, shares, strict=True)
        },
    }
    figures = {
        f"{target.task}-inputs": draw_contributions(share, target, missing)
        for target, share in zip(targets, shares, strict=True)
    }
    for name in box.readers:
        concerned = [target for target, share in zip(targets, shares, strict=True) if name not in share.unused]
        if name in missing or not concerned:
            continue
        parts = parts_of(box, name, records[row], sample)
        if parts is None:
            continue
        source = _source(box, records, row, sample, name, parts)
        for target, drops in zip(concerned, parts.drops(box, sample, name, concerned), strict=True):
            content["tasks"][target.task]["parts"][name] = _described(parts, drops, target, source)
            figures[f"{target.task}-{name}"] = draw_parts(parts, drops, target, name, source)
    if neighbors is not None:
        found = neighbors.nearest(outputs[EMBEDDING][0], number)
        content["neighbors"] = [
            {
                "record": neighbors.records.place(near),
                "similarity": similarity,
                "values": {key: _plain(value) for key, value in neighbors.records[near].items()},
            }
            for near, similarity in found
        ]
        figures |= _neighbor_figures(box, sample, neighbors, found)
    return Explanation(content, figures)


def _answered(
    box: RecordModel, target: ExplanationTarget, share: Contributions, outputs: dict[str, np.ndarray]
) -> dict[str, Any]:
    prediction = box.decodings[target.task].predictions(outputs[target.task])[0]
    value = prediction.value if target.label is None else (list(prediction.labels) or prediction.label)
    return {
        "answer": value,
        "probability": prediction.probability,
        "explained": {"label": target.label, "unit": target.unit, "evidence_unit": target.evidence_unit},
        "contributions": {"none": share.none, "inputs": share.values, "all": share.all},
        "unused": sorted(share.unused),
        "parts": {},
    }


def _described(parts: Parts, drops: np.ndarray, target: ExplanationTarget, source: Any) -> dict[str, Any]:
    entries = []
    for span, drop in zip(parts.spans, drops.tolist(), strict=True):
        entry: dict[str, Any] = {"drop": drop}
        if parts.kind == "text":
            entry |= {"word": source[slice(*span)], "start": span[0], "end": span[1]}
        elif parts.kind == "audio" and source[1]:
            entry |= {"start_seconds": span[0] / source[1], "end_seconds": span[1] / source[1]}
        else:
            entry |= {"span": list(span)}
        entries.append(entry)
    return {"kind": parts.kind, "unit": target.evidence_unit, "parts": entries}


def _source(box: RecordModel, records: Records, row: int, sample: Sample, name: str, parts: Parts) -> Any:
    reader, (arrays, _) = box.readers[name], sample[name]
    if parts.kind == "image":
        return arrays["pixels"]
    if parts.kind == "audio":
        return arrays["waveform"], getattr(reader.preprocessor, "sample_rate", None)
    return records[row][reader.column]


def _neighbor_figures(
    box: RecordModel, sample: Sample, neighbors: Neighbors, found: Sequence[tuple[int, float]]
) -> dict[str, Image.Image]:
    """One strip for each image input."""
    samples = [sample, *(box.read(neighbors.records, near) for near, _ in found)]
    places = [neighbors.records.place(near).rpartition(", ")[2] for near, _ in found]
    captions = ["this record", *(f"{near[1]:.3f}, {place}" for near, place in zip(found, places, strict=True))]
    strips = {}
    for name, (arrays, _) in sample.items():
        if "pixels" in arrays:
            pixels = [entry[name][0]["pixels"] if entry[name][1] else None for entry in samples]
            strips[f"neighbors-{name}"] = draw_neighbors(pixels, captions)
    return strips


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float | bool) else f"({type(value).__name__})"
