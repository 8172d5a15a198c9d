"""From a trained run to a bundle: graph, parity gate, golden records, model card. Nothing is written half."""

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from encoders.preprocessing import save_preprocessor
from export.bundle import MODEL_FILES, PARITY_FILE, Bundle, BundleInput
from export.bundle_folder import new_bundle, seal_bundle
from export.card import model_card
from export.golden import write_golden
from export.golden_media import write_media
from export.parity import Batch, check_parity, synthetic_batch
from export.precisions import PrecisionMaker, wanted_precisions
from export.rows import ReadRows, input_columns, read_spread_rows
from export.sources import check_manifest
from export.to_onnx import to_onnx
from export.trained_run import TrainedRun
from multimodal.decoding import Decoding, PairedEmbeddings
from multimodal.evaluation import run_torch
from multimodal.model import MultimodalModel
from multimodal.records import Records, read_records, stack_inputs
from multimodal.runtime.files import write_atomically, write_json
from multimodal.runtime.torch_state import own_state

MODEL_FILE = MODEL_FILES["fp32"]
GOLDEN_RECORDS = 4
PARITY_RECORDS = 32
"""Real records that the graph is compared on."""

_PATH_KEYS = {"train", "valid", "test", "encoder", "weights"}
_LIBRARIES = (
    "multimodal-transfer", "torch", "onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime", "numpy", "pillow",
    "tokenizers", "soundfile", "soxr",
)  # fmt: skip


@own_state()
def export_bundle(
    run: TrainedRun | str | Path,
    folder: str | Path,
    *,
    records: Any = None,
    calibration: Any = None,
    opset: int = 20,
    precision: str | Sequence[str] = "fp32",
    embedding: bool = False,
    golden_media: bool = False,
) -> Bundle:
    """Exports a run to a bundle, after comparing the graph with the model.

    Args:
        run: a training run, or its folder.
        folder: takes the bundle; must not exist, or be empty.
        records: real records for the comparison with torch, for the golden samples, and, with known answers, to
            judge smaller precisions on, as ``read_records`` takes them; None takes the run's validation records, and
            invented ones where there are none.
        calibration: records that give int8 the ranges of its activations; None takes the run's training records.
        precision: "fp32" is always there; "fp16" (for CUDA) and "int8" (for CPUs), or several of them, are added
            if real records show that they lose next to nothing (``export.gate``).
        embedding: adds the output ``embedding``: the fused vector at length 1.
        golden_media: puts the raw values of the golden records into the bundle, which may be private.

    Raises:
        ParityError: if onnxruntime does not answer as torch does, or a smaller precision loses too much; nothing
            is written.
        BundleError: if ``folder`` is not empty.
        ManifestError: if records that are given have none of the inputs' columns, or misspell one.
        ValueError: if the precision or the opset is not supported, the model is too large for one file, no task
            answers anything, ``golden_media`` is asked for and there are no real records of files and texts, a
            smaller precision and there are none to judge it on, int8 and there are none to calibrate it on, or
            ``calibration`` is given and int8 is not asked for.
    """
    precisions = wanted_precisions(precision)
    if calibration is not None and "int8" not in precisions:
        raise ValueError(
            f"calibration records are given, and only int8 takes any, not {', '.join(precisions)}; ask for the "
            "precision int8, or leave calibration out"
        )
    if isinstance(run, str | Path):
        from multimodal.run import Run

        run = Run(run)
    decodings = _answering(run)
    model = run.model.with_tasks(decodings)
    table = run.validation_records() if records is None else _table(run, records)
    ranges = None if calibration is None else _table(run, calibration)
    with new_bundle(Path(folder)) as staging:
        real = _real_records(run, table, given=records is not None)
        graph = to_onnx(model, opset=opset, embedding=embedding)
        write_atomically(staging / MODEL_FILE, graph)
        batch = None if real is None else stack_inputs(run.readers, real.samples)
        preprocessors = {name: reader.preprocessor for name, reader in run.readers.items()}
        reference = partial(run_torch, model, embedding=embedding)
        parity = check_parity(reference, staging / MODEL_FILE, preprocessors, records=batch)
        parity["sha256"] = hashlib.sha256(graph).hexdigest()
        source = "validation" if records is None else "given"
        chosen = _write_golden(staging, run, model, decodings, real, source, embedding=embedding)
        smaller = _add_precisions(staging, run, decodings, precisions[1:], table, ranges)
        write_json(staging / PARITY_FILE, {"models": {MODEL_FILE: parity, **smaller}})
        if golden_media:
            _write_media(staging, run, real, chosen)
        _write_description(staging, run, decodings)
        bundle = Bundle(
            folder=staging,
            name=run.job.name,
            inputs=_inputs(run),
            tasks={name: run.job.tasks[name].type for name in decodings},
            models={name: MODEL_FILES[name] for name in precisions},
            opset=opset,
            libraries=library_versions(),
            embedding=embedding,
        )
        write_atomically(staging / "README.md", model_card(bundle, run.metrics, _provenance(run)).encode())
        bundle = seal_bundle(bundle)
    return bundle.at(Path(folder))


def _add_precisions(
    staging: Path,
    run: TrainedRun,
    decodings: Mapping[str, Decoding],
    precisions: Sequence[str],
    evaluation_records: Records | None,
    ranges: Records | None,
) -> dict[str, Any]:
    """Their files into the bundle; gives file -> the report of the gate."""
    if not precisions:
        return {}
    calibrating = run.training_records() if ranges is None else ranges
    maker = PrecisionMaker(
        staging, run.readers, decodings, run.targets, evaluation_records=evaluation_records, calibrating=calibrating
    )
    return {MODEL_FILES[name]: maker.add(name) for name in precisions}


def _table(run: TrainedRun, records: Any) -> Records:
    table = read_records(records, allow_outside=run.job.data.outside)
    check_manifest(table, {name: reader.column for name, reader in run.readers.items()})
    return table


def library_versions() -> dict[str, str]:
    """Versions of what takes part in an export."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # one of the two names of onnxruntime
    return versions


def _answering(run: TrainedRun) -> dict[str, Decoding]:
    """The decodings of tasks that answer something; contrastive ones serve training alone."""
    decodings = {name: entry for name, entry in run.decodings.items() if not isinstance(entry, PairedEmbeddings)}
    if not decodings:
        raise ValueError(
            f"this run only compares its inputs ({', '.join(run.decodings)}), so there is nothing to export; take its "
            "encoders in a later job with inputs.NAME.weights: RUN, and export that"
        )
    return decodings


def _real_records(run: TrainedRun, table: Records | None, *, given: bool) -> ReadRows | None:
    """Readable records, spread over the table; None where there are none."""
    if table is None or len(table) == 0:
        return None
    real = read_spread_rows(run.readers, table, PARITY_RECORDS)
    if given and not real.samples:
        raise ValueError(
            f"none of the records can be read as the inputs {input_columns(run.readers)}; give others, or leave "
            "records out"
        )
    return real if real.samples else None


def _write_golden(
    staging: Path,
    run: TrainedRun,
    model: MultimodalModel,
    decodings: Mapping[str, Decoding],
    real: ReadRows | None,
    source: str,
    *,
    embedding: bool,
) -> list[int]:
    """Writes them, and says which of the real samples they are."""
    chosen: list[int] = []
    if real is None:
        batch: Batch = synthetic_batch(run.readers, GOLDEN_RECORDS)
    else:
        chosen = np.unique(np.linspace(0, len(real.samples) - 1, GOLDEN_RECORDS).astype(int)).tolist()
        batch = stack_inputs(run.readers, [real.samples[index] for index in chosen])
    outputs = run_torch(model, batch, embedding=embedding)
    rows = None if real is None else [real.number(index) for index in chosen]
    write_golden(staging / "golden", batch, outputs, decodings, rows, "invented" if real is None else source)
    return chosen


def _write_media(staging: Path, run: TrainedRun, real: ReadRows | None, chosen: Sequence[int]) -> None:
    if real is None:
        raise ValueError(
            "golden media are asked for, but the golden records are invented: the run has no validation table that "
            "is still as it was; give records"
        )
    write_media(staging, run.readers, real.records, [real.places[index] for index in chosen])


def _write_description(staging: Path, run: TrainedRun, decodings: Mapping[str, Decoding]) -> None:
    for name, reader in run.readers.items():
        save_preprocessor(reader.preprocessor, staging / "inputs" / name)
    for name, decoding in decodings.items():
        task = run.job.tasks[name]
        write_json(staging / "tasks" / f"{name}.json", {"type": task.type, "decoding": decoding.to_config()})
    write_json(staging / "metrics.json", run.metrics)
    write_json(staging / "provenance.json", _provenance(run))


def _provenance(run: TrainedRun) -> Any:
    return _without_folders({"config": run.job.model_dump(mode="json"), **run.provenance})


def _without_folders(value: Any, key: str = "") -> Any:
    """The same JSON with file names where there were absolute paths: a bundle leaves the machine that trained it."""
    if isinstance(value, dict):
        return {name: _without_folders(entry, name) for name, entry in value.items()}
    if not isinstance(value, str) or key not in _PATH_KEYS:
        return value
    family, _, folder = value.partition("/")  # "transformers//models/minilm"
    if family and Path(folder).is_absolute():
        return f"{family}/{Path(folder).name}"
    return Path(value).name if Path(value).is_absolute() else value


def _inputs(run: TrainedRun) -> dict[str, BundleInput]:
    return {
        name: BundleInput(reader.column, reader.preprocessor.modality, tuple(reader.preprocessor.tensors))
        for name, reader in run.readers.items()
    }
