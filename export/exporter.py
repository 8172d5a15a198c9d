"""Export of a trained run to a bundle: every file of it is written, or none."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from export.bundle import Bundle
from export.bundle_folder import new_bundle
from export.bundle_writer import BundleWriter
from export.precisions import wanted_precisions
from export.rows import ReadRows, input_columns, read_spread_rows
from multimodal.inference.sources import check_manifest
from multimodal.records import Records, read_records
from multimodal.run import Run
from multimodal.runtime.torch_state import isolated_torch_state

PARITY_RECORDS = 32
"""Real records that the graph is compared on."""


@isolated_torch_state()
def export_bundle(
    run: Run | str | Path,
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
        records: real records for the comparison with torch, for the golden samples, and, with known values, to
            judge smaller precisions on, as ``read_records`` takes them; None takes the run's validation records, and
            synthetic ones where there are none.
        calibration: records that give int8 the ranges of its activations; None takes the run's training records.
        precision: "fp32" is always included; "fp16" (for CUDA) and "int8" (for CPUs), or several of them, are added
            if real records show that they lose next to nothing (``export.gate``).
        embedding: adds the output ``embedding``: the fused vector at length 1.
        golden_media: puts the raw values of the golden records into the bundle, which may be private.

    Raises:
        ParityError: if onnxruntime does not give the outputs of torch, or a smaller precision loses too much; nothing
            is written.
        BundleError: if ``folder`` is not empty.
        ManifestError: if records that are given have none of the inputs' columns, or misspell one.
        ValueError: if the precision or the opset is not supported, the model is too large for one file, no task
            predicts anything, ``golden_media`` is asked for and there are no real records of files and texts, a
            smaller precision and there are none to judge it on, int8 and there are none to calibrate it on, or
            ``calibration`` is given and int8 is not asked for.
    """
    precisions = wanted_precisions(precision)
    if calibration is not None and "int8" not in precisions:
        raise ValueError(
            f"calibration records are given, and only int8 takes any, not {', '.join(precisions)}; ask for the "
            "precision int8, or leave calibration out"
        )
    run = Run(run) if isinstance(run, str | Path) else run
    evaluation = run.validation_records() if records is None else _read_table(run, records)
    ranges = None if calibration is None else _read_table(run, calibration)
    with new_bundle(Path(folder)) as staging:
        real = _real_records(run, evaluation, given=records is not None)
        writer = BundleWriter(run, staging, real, opset, embedding)
        writer.write_graph()
        writer.write_golden("validation" if records is None else "given")
        writer.write_precisions(precisions[1:], evaluation, ranges)
        if golden_media:
            writer.write_golden_media()
        writer.write_descriptions()
        bundle = writer.seal()
    return replace(bundle, folder=Path(folder))


def _read_table(run: Run, records: Any) -> Records:
    table = read_records(records, allow_outside=run.job.data.outside)
    check_manifest(table, {name: reader.column for name, reader in run.readers.items()})
    return table


def _real_records(run: Run, table: Records | None, *, given: bool) -> ReadRows | None:
    """Readable records, spread over the table; None if there are none."""
    if table is None or len(table) == 0:
        return None
    real = read_spread_rows(run.readers, table, PARITY_RECORDS)
    if given and not real.samples:
        raise ValueError(
            f"none of the records can be read as the inputs {input_columns(run.readers)}; give others, or leave "
            "records out"
        )
    return real if real.samples else None
