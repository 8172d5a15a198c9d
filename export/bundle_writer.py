"""The files of a bundle, written from a trained run."""

import hashlib
import importlib.metadata
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from encoders.preprocessing import save_preprocessor
from export.bundle import MODEL_FILES, PARITY_FILE, PROVENANCE_FILE, Bundle, BundleInput
from export.bundle_folder import seal_bundle
from export.card import model_card
from export.golden import write_golden
from export.golden_media import write_media
from export.parity import Batch, check_parity, synthetic_batch
from export.precisions import PrecisionMaker
from export.rows import ReadRows
from export.to_onnx import to_onnx
from multimodal.decoding import Decoding
from multimodal.evaluation import run_torch
from multimodal.records import Records, stack_inputs
from multimodal.run import Run
from multimodal.runtime.files import write_atomically, write_json
from multimodal.task_types.registry import task_config

GOLDEN_RECORDS = 4

_PATH_KEYS = {"train", "valid", "test", "encoder", "weights"}
_LIBRARIES = (
    "multimodal-transfer", "torch", "onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime", "numpy", "pillow",
    "tokenizers", "soundfile", "soxr",
)  # fmt: skip


@dataclass
class BundleWriter:
    """Writes a bundle into a folder, one method per kind of file; ``seal`` comes last."""

    run: Run
    folder: Path
    records: ReadRows | None
    """Real records, to compare on and to take golden ones from; None takes synthetic ones."""
    opset: int
    embedding: bool
    """Adds the fused vector to the graph's outputs."""
    models: dict[str, str] = field(default_factory=dict)
    """Precision -> file, of the graphs that are written."""
    reports: dict[str, Any] = field(default_factory=dict)
    """File of a graph -> report of its comparison."""

    def __post_init__(self) -> None:
        self.decodings = predicting_decodings(self.run)
        self.model = self.run.model.with_tasks(self.decodings)
        self.reference = partial(run_torch, self.model, embedding=self.embedding)

    def write_graph(self) -> None:
        """``model.onnx``, which must give the outputs of the model.

        Raises:
            ParityError: if it does not.
        """
        graph, file = to_onnx(self.model, opset=self.opset, embedding=self.embedding), MODEL_FILES["fp32"]
        write_atomically(self.folder / file, graph)
        readers = self.run.readers
        batch = None if self.records is None else stack_inputs(readers, self.records.samples)
        report = check_parity(self.reference, self.folder / file, readers, records=batch)
        self.models["fp32"] = file
        self.reports[file] = {**report, "sha256": hashlib.sha256(graph).hexdigest()}

    def write_golden(self, source: str) -> None:
        """``golden/``: a few records with their outputs and predictions.

        Args:
            source: of the real records, "validation" or "given".
        """
        if self.records is None:
            batch: Batch = synthetic_batch(self.run.readers, GOLDEN_RECORDS)
            rows, source = None, "invented"
        else:
            batch = stack_inputs(self.run.readers, [self.records.samples[index] for index in self._golden_indices()])
            rows = [self.records.records.number(index) for index in self._golden_indices()]
        write_golden(self.folder / "golden", batch, self.reference(batch), self.decodings, rows=rows, source=source)

    def write_golden_media(self) -> None:
        """``golden/media/``: the raw values of the golden records.

        Raises:
            ValueError: if these are synthetic.
        """
        if self.records is None:
            raise ValueError(
                "golden media are asked for, but the golden records are synthetic: the run has no validation table "
                "that is still as it was; give records"
            )
        write_media(self.folder, self.run.readers, self.records.records, self._golden_indices())

    def write_precisions(self, names: Sequence[str], evaluation: Records | None, calibration: Records | None) -> None:
        """``model.<precision>.onnx`` and its golden outputs, for every smaller precision.

        Args:
            evaluation: records with known values, which every precision is judged on.
            calibration: records that give int8 its ranges; None takes the run's training records.

        Raises:
            ParityError: if one loses too much.
        """
        if names:
            calibrating = self.run.training_records() if calibration is None else calibration
            given = {"evaluation_records": evaluation, "calibrating": calibrating}
            maker = PrecisionMaker(self.folder, self.run, self.decodings, **given)
            for name in names:
                self.reports[MODEL_FILES[name]] = maker.add(name)
                self.models[name] = MODEL_FILES[name]

    def write_descriptions(self) -> None:
        """``inputs/<input>/``: the preprocessors; ``tasks/<task>.json``: type and decoding; reports and origin."""
        for name, reader in self.run.readers.items():
            save_preprocessor(reader.preprocessor, self.folder / "inputs" / name)
        for name, decoding in self.decodings.items():
            write_json(self.folder / "tasks" / f"{name}.json", task_config(self.run.job.tasks[name].type, decoding))
        write_json(self.folder / PARITY_FILE, {"models": self.reports})
        write_json(self.folder / "metrics.json", self.run.metrics)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(self.folder / PROVENANCE_FILE, {"created": created, **exported_provenance(self.run)})

    def seal(self) -> Bundle:
        """``README.md``, and the files that list all others."""
        bundle = Bundle(
            folder=self.folder,
            name=self.run.job.name,
            inputs={
                name: BundleInput(reader.column, reader.preprocessor.modality, tuple(reader.preprocessor.tensors))
                for name, reader in self.run.readers.items()
            },
            tasks={name: self.run.job.tasks[name].type for name in self.decodings},
            models=self.models,
            opset=self.opset,
            libraries=library_versions(),
            embedding=self.embedding,
        )
        card = model_card(bundle, self.run.metrics, exported_provenance(self.run))
        write_atomically(self.folder / "README.md", card.encode())
        return seal_bundle(bundle)

    def _golden_indices(self) -> list[int]:
        count = 0 if self.records is None else len(self.records.samples)
        return np.unique(np.linspace(0, count - 1, GOLDEN_RECORDS).astype(int)).tolist()


def predicting_decodings(run: Run) -> dict[str, Decoding]:
    """Decodings of the tasks that predict something; contrastive ones serve training alone.

    Raises:
        ValueError: if there are none.
    """
    decodings = {name: entry for name, entry in run.decodings.items() if entry.is_served}
    if not decodings:
        raise ValueError(
            f"this run only compares its inputs ({', '.join(run.decodings)}), so there is nothing to export; take its "
            "encoders in a later job with inputs.NAME.weights: RUN, and export that"
        )
    return decodings


def library_versions() -> dict[str, str]:
    """Versions of the libraries that take part in an export."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # one of the two names of onnxruntime
    return versions


def exported_provenance(run: Run) -> Any:
    """The run's configuration and provenance, without the absolute paths of the machine that trained it."""
    return _without_folders({"config": run.job.model_dump(mode="json"), **run.provenance})


def _without_folders(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _without_folders(entry, name) for name, entry in value.items()}
    if not isinstance(value, str) or key not in _PATH_KEYS:
        return value
    family, _, folder = value.partition("/")  # "transformers//models/minilm"
    if family and Path(folder).is_absolute():
        return f"{family}/{Path(folder).name}"
    return Path(value).name if Path(value).is_absolute() else value
