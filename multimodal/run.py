"""The folder of a training run: what it holds, and the trained model in it."""

import copy
import json
from collections.abc import Iterable, Mapping
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from encoders import create_encoder
from encoders.base import Encoder
from encoders.preprocessing import load_preprocessor, save_preprocessor
from encoders.text.words import WordVectors
from fusion.names import module_key
from multimodal.builders.encoders import build_augmentations
from multimodal.builders.heads import build_decodings, build_target_reader
from multimodal.builders.model import build_model
from multimodal.config import Job, load_job
from multimodal.config.setting import learned_tables
from multimodal.data.dataset import RecordDataset, num_workers
from multimodal.decoding import Decoding
from multimodal.evaluation import evaluate, run_torch
from multimodal.inference.batching import OnError
from multimodal.inference.record_model import RecordModel
from multimodal.model import MultimodalModel
from multimodal.plugins import plugins_of, require_plugins
from multimodal.records import InputReader, ManifestError, Records, read_records
from multimodal.records.targets import TargetReader
from multimodal.runtime.checkpoint import load_tensors
from multimodal.runtime.distributed import Processes
from multimodal.runtime.files import refuse_overwriting, sha256_of, write_json
from multimodal.runtime.runtime import choose_device
from multimodal.runtime.torch_state import isolated_torch_state
from multimodal.task_types.registry import task_config, task_decoding
from multimodal.trainer import CHECKPOINTS, HISTORY_FILE

if TYPE_CHECKING:
    import pandas

    from export import Bundle

FORMAT = 1
CONFIG_FILE, MODEL_FILE, WEIGHTS_FILE, METRICS_FILE = "config.yaml", "model.json", "model.safetensors", "metrics.json"
GUARD_FILE, RANKING_FILE, RELIABILITY_FOLDER = "transfer.json", "ranking.json", "reliability"
WRITTEN = (
    *(CONFIG_FILE, MODEL_FILE, WEIGHTS_FILE, METRICS_FILE, HISTORY_FILE, GUARD_FILE, RANKING_FILE),
    *(f"{CHECKPOINTS}/*.safetensors", f"{RELIABILITY_FOLDER}/*.png"),
)
"""Patterns of the files of a run, beside ``inputs/NAME/``."""
OWN_FILES = (*dict.fromkeys(PurePosixPath(pattern).parts[0] for pattern in WRITTEN), "inputs")
"""Files and folders that a training may leave in a run's folder; others are the user's."""


class RunError(ValueError):
    """A run folder that cannot be used."""


def write_architecture(
    folder: Path,
    job: Job,
    encoders: Mapping[str, Encoder],
    heads: Mapping[str, Mapping[str, Any]],
    model: MultimodalModel,
    provenance: Mapping[str, Any],
) -> None:
    """Writes what rebuilds the model without its weights: ``model.json`` and ``inputs/``."""
    for name, encoder in encoders.items():
        save_preprocessor(encoder.preprocessor, folder / "inputs" / name)
    inputs = {
        name: {
            "encoder": encoder.name,
            "arguments": encoder.architecture(),
            "shares": job.inputs[name].share,
            "kept_as": module_key(model.encoder_of[name]),
            "provenance": vars(encoder.provenance),
        }
        for name, encoder in encoders.items()
    }
    tasks = {
        name: {**task_config(job.tasks[name].type, model.head(name).decoding()), "head": arguments}
        for name, arguments in heads.items()
    }
    content = {"format": FORMAT, "inputs": inputs, "tasks": tasks, "provenance": provenance}
    kinds = [encoder.preprocessor.to_config()["kind"] for encoder in encoders.values()]
    if plugins := plugins_of(job, [encoder.name for encoder in encoders.values()], kinds):
        content["plugins"] = plugins
    write_json(folder / MODEL_FILE, content)


def write_decodings(folder: Path, decodings: Mapping[str, Decoding]) -> None:
    """Puts decodings into ``model.json``, in the place of those that the heads began with."""
    description = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))
    for name, decoding in decodings.items():
        description["tasks"][name]["decoding"] = decoding.to_config()
    write_json(folder / MODEL_FILE, description)


def own_files(folder: Path) -> list[tuple[str, Path]]:
    """Files that belong to a run, whether or not it is there, in the terms of ``refuse_overwriting``."""
    return [("a file of the run", folder / name) for name in OWN_FILES]


class Run:
    """A finished training run.

    Args:
        folder: as ``multimodal train --out`` wrote it.

    Raises:
        RunError: if the folder holds no finished run, or a part that it was trained with is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        missing = [name for name in (CONFIG_FILE, MODEL_FILE, WEIGHTS_FILE) if not (self.folder / name).is_file()]
        if missing:
            raise RunError(
                f"{self.folder} is not a finished training run: it has no {', '.join(missing)}; "
                "make one with `multimodal train`, or finish it with --resume"
            )
        self._description: dict[str, Any] = json.loads((self.folder / MODEL_FILE).read_text(encoding="utf-8"))
        if self._description.get("format") != FORMAT:
            raise RunError(
                f"{self.folder} has format {self._description.get('format')!r}, and this version reads {FORMAT}; "
                "train again, or install the version that wrote it"
            )
        try:
            require_plugins(self._description.get("plugins", ()))
        except LookupError as error:
            raise RunError(f"{self.folder}: {error}") from error
        self.job: Job = load_job(self.folder / CONFIG_FILE, resolved=True)

    def __getstate__(self) -> dict[str, Any]:  # another process may have another working directory
        return {**self.__dict__, "folder": self.folder.absolute()}

    @cached_property
    @isolated_torch_state()
    def model(self) -> MultimodalModel:
        """The trained model, in eval mode, on the CPU."""
        own: dict[str, Encoder] = {}
        for name, entry in self._description["inputs"].items():
            if entry["shares"] is None:
                own[name] = create_encoder(entry["encoder"], weights=None, **entry["arguments"])
                own[name].preprocessor = load_preprocessor(self.folder / "inputs" / name)
        shares = {name: entry["shares"] for name, entry in self._description["inputs"].items()}
        encoders = {name: own[name if owner is None else owner] for name, owner in shares.items()}
        heads = {name: entry["head"] for name, entry in self._description["tasks"].items()}
        model = build_model(self.job, encoders, heads)
        model.load_state_dict(load_tensors(self.folder / WEIGHTS_FILE)[0])
        return model.eval()

    @cached_property
    def readers(self) -> dict[str, InputReader]:
        """Reader of each input's column."""
        return {
            name: InputReader(name, self.job.input_column(name), self.model.encoder(name).preprocessor)
            for name in self.job.inputs
        }

    @cached_property
    def targets(self) -> dict[str, TargetReader]:
        """Reader of each task's column."""
        tasks = self._description["tasks"]
        return {name: build_target_reader(self.job, name, entry["head"]) for name, entry in tasks.items()}

    @property
    def decodings(self) -> dict[str, Decoding]:
        """Decoding of each task's outputs."""
        stored = {name: task_decoding(entry) for name, entry in self._description["tasks"].items()}
        return build_decodings(self.job, stored)

    @property
    def metrics(self) -> dict[str, Any]:
        """``metrics.json``; empty if the run had no labelled records to evaluate on."""
        path = self.folder / METRICS_FILE
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    @property
    def provenance(self) -> dict[str, Any]:
        """Data hashes, seed, versions, and each encoder's weights with licence and sha256."""
        inputs = {name: entry["provenance"] for name, entry in self._description["inputs"].items()}
        return {**self._description["provenance"], "encoders": inputs}

    def dataset(self, records: Records) -> RecordDataset:
        """The records as this run's inputs and tasks."""
        encoders = {name: self.model.encoder(name) for name in self.job.inputs}
        augmentations = build_augmentations(self.job, encoders, training=False)
        return RecordDataset(records, self.readers, self.targets, augmentations)

    @isolated_torch_state()
    def evaluate(self, data: Any, *, out: str | Path | None = None, root: str | Path | None = None) -> dict[str, Any]:
        """Metrics per task and per combination of inputs.

        Args:
            data: a manifest's path, a DataFrame or a list of dicts.
            out: takes the same as JSON.
            root: folder of the media; left out: the manifest's.

        Raises:
            ManifestError: if the table cannot be read, has no record, or misses the column of an input or task.
            OverwriteError: if ``out`` is the table, one of its media, or a file of the run.
            RecordError: for the first record that cannot be read, with ``data.on_error: raise``.
        """
        records = read_records(data, root=root, allow_outside=self.job.data.outside)
        if out is not None:
            read = [*own_files(self.folder), *([("the table", data)] if isinstance(data, str | Path) else [])]
            refuse_overwriting("--out", out, read, records.media([*map(self.job.input_column, self.job.inputs)]))
        if not len(records):
            raise ManifestError(records.source, "has no record, so there is nothing to evaluate; add records")
        records.require([*(reader.column for reader in self.readers.values()), *self.job.label_columns().values()])
        dataset = self.dataset(records)
        workers = num_workers(self.job.data.workers)
        metrics = evaluate(self._on_device(), dataset, self.decodings, workers=workers, on_error=self.job.data.on_error)
        if out is not None:
            write_json(Path(out), metrics)
        return metrics

    def _on_device(self) -> MultimodalModel:
        """The model where it answers fastest; a copy of it where that is not the CPU."""
        device = choose_device("auto", Processes())
        return self.model if device.type == "cpu" else copy.deepcopy(self.model).to(device)

    def with_vocabulary(self, words: Iterable[str]) -> "Run":
        """The run with these words alone in its word vectors, for a smaller bundle; the others become unknown.

        Raises:
            RunError: if no input is read through word vectors.
            ValueError: if an input knows none of the words.
        """
        words, narrowed = list(words), Run(self.folder)
        encoders = narrowed.model.encoders
        own = {name: encoder for name, encoder in encoders.items() if isinstance(encoder, WordVectors)}
        if not own:
            raise RunError(f"no input of {self.folder} is read through word vectors; leave the vocabulary out")
        for name, encoder in own.items():
            encoders[name] = encoder.narrowed(words)
        return narrowed

    def predict(self, records: Any, *, batch_size: int = 32, on_error: OnError = "raise") -> list[Any]:
        """Predictions of each record, in order: task -> Prediction, and ``embedding``; as ``Predictor.predict``."""
        return self.record_model().predict(records, batch_size=batch_size, on_error=on_error)

    def predict_table(self, data: Any, *, batch_size: int = 32, on_error: OnError = "raise") -> "pandas.DataFrame":
        """DataFrame of a table's predictions, with its index and every probability; as ``Predictor.predict_table``."""
        return self.record_model().predict_table(data, batch_size=batch_size, on_error=on_error)

    def record_model(self) -> RecordModel:
        """The run as explanations see it."""
        forward = partial(run_torch, self._on_device(), embedding=True)
        served = {task: decoding for task, decoding in self.decodings.items() if decoding.is_served}
        return RecordModel(self.readers, served, forward, has_embedding=True, allow_outside=self.job.data.outside)

    def training_records(self) -> Records | None:
        """The records that trained the model; None where their file is not as it was, or never was one.

        In the transductive setting these are the source's, and so are those of ``validation_records``.
        """
        records, provenance = self._table(self._learned[0]), self._description["provenance"]
        others = {*(provenance["held_out"] or ()), *provenance.get("left_out", ())}
        return None if records is None else records.subset(row for row in range(len(records)) if row not in others)

    def validation_records(self) -> Records | None:
        """The records that chose the checkpoint; None where their file is not as it was, or never was one."""
        (learned, chosen), held_out = self._learned, self._description["provenance"]["held_out"]
        records = self._table(chosen if held_out is None else learned)
        return records if records is None or held_out is None else records.subset(held_out)

    @property
    def _learned(self) -> tuple[str, str]:
        return learned_tables(transductive=self._description["provenance"].get("setting") == "transductive")

    def _table(self, split: str) -> Records | None:
        """A table of the training, where its file is as it was."""
        source, hashes = getattr(self.job.data, split), self._description["provenance"]["data"]
        if source is None or not Path(source).is_file() or sha256_of(Path(source)) != hashes.get(split):
            return None
        return read_records(source, allow_outside=self.job.data.outside)

    def export(self, folder: str | Path, **options: Any) -> "Bundle":
        """Writes the ONNX bundle; options as ``export_bundle`` takes them."""
        import multimodal  # its lazy names: this floor lies below `export` and does not import it

        return multimodal.export_bundle(self, folder, **options)
