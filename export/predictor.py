"""Predictions of a bundle: onnxruntime and the preprocessing of training. Never imports torch."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import onnxruntime as ort

from encoders.preprocessing import Arrays, Preprocessor
from export.acceleration import Acceleration, Buckets, accelerated_run, run_bound, session_options
from export.bundle import Bundle, BundleError, BundleInput, FileEntry
from export.bundle_folder import read_bundle
from export.loading import load_decoding, load_input, open_model
from export.session import output_sizes, release_memory, run_session, session_device
from multimodal.decoding import EMBEDDING, Decoding, Prediction
from multimodal.inference.batching import OnError, RecordResult
from multimodal.inference.record_model import RecordModel
from multimodal.inference.sources import Sample, open_source
from multimodal.records import InputReader, RecordError, stack_inputs

if TYPE_CHECKING:
    import pandas

__all__ = ["Predictor", "RecordResult"]


class Predictor:
    """Loaded bundle, as ``Predictor.load`` returns it; may be used from several threads.

    Copies and unpickled ones load its folder again.

    Args:
        bundle: as read, its files checked.
        session: of one of its models.
        preprocessors: input -> preprocessor.
        precision: of the session's model.
        run: runs the session; None for the plain run.
        allow_plugins: task types of other distributions that may be loaded; None allows every installed one.
    """

    def __init__(
        self,
        bundle: Bundle,
        session: ort.InferenceSession,
        preprocessors: Mapping[str, Preprocessor],
        *,
        precision: str = "fp32",
        run: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]] | None = None,
        allow_plugins: Collection[str] | None = None,
    ) -> None:
        self.bundle = bundle
        self.session = session
        self.precision = precision
        """ "fp32", "fp16" or "int8"."""
        self.device = session_device(session)
        """ "cpu" or "cuda": where the model actually runs."""
        self.decodings: dict[str, Decoding] = {
            task: load_decoding(bundle, task, sizes, allow_plugins)
            for task, sizes in output_sizes(session).items()
            if task in bundle.tasks
        }
        self._preprocessors = dict(preprocessors)
        readers = {
            name: InputReader(name, entry.column, self._preprocessors[name]) for name, entry in bundle.inputs.items()
        }
        self._model = RecordModel(
            readers, self.decodings, lambda stacked: self.run(flat_feed(stacked)), has_embedding=bundle.embedding
        )
        plainly = run_bound if self.device == "cuda" else run_session
        self._run = partial(plainly, session) if run is None else run
        self._load_again: Callable[[], Predictor] | None = None

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        device: str = "auto",
        precision: str = "auto",
        strict: bool = False,
        threads: int | None = None,
        allow_plugins: Collection[str] = (),
        acceleration: Acceleration = "none",
    ) -> "Predictor":
        """Checks a bundle's files and loads it; models of other precisions are not read.

        Args:
            device: "cpu", "cuda", "cuda:1", or "auto": CUDA where it works, else the CPU.
            precision: "fp32" or another one that the bundle holds; "auto" takes, of those that the bundle holds,
                fp16 on CUDA, int8 on a CPU that has instructions for it (``int8_instructions``), else fp32.
            strict: on CUDA, reject a model of which any node would run on the CPU.
            threads: of one operator on the CPU; None takes every core that this process may use.
            allow_plugins: preprocessors and task types of other distributions that may be loaded, which runs their
                code.
            acceleration: on CUDA alone, "cuda_graph" replays a recorded graph for each shape (rounded up to few), and
                "tensorrt" builds an engine that is kept in the user's cache; "none" does neither.

        Raises:
            BundleError: if the folder is no bundle, or not as it was written, or needs a preprocessor or task type
                that is not allowed or not installed.
            DeviceError: if "cuda" or an acceleration was asked for and is not available.
            ValueError: if an argument is out of range.
        """
        bundle = read_bundle(folder, hash_models=False)
        preprocessors = {name: load_input(bundle, name, allow_plugins) for name in bundle.inputs}
        buckets = Buckets.of(bundle, preprocessors)
        options = session_options(acceleration, device, buckets, bundle)
        session, chosen = open_model(bundle, precision, device=device, strict=strict, threads=threads, **options)
        release_memory()
        run = accelerated_run(acceleration, session, buckets, device)
        predictor = cls(bundle, session, preprocessors, precision=chosen, run=run, allow_plugins=allow_plugins)
        predictor._load_again = partial(
            cls.load,
            Path(folder).absolute(),
            device=device,
            precision=precision,
            strict=strict,
            threads=threads,
            allow_plugins=tuple(allow_plugins),
            acceleration=acceleration,
        )
        if predictor.device == "cuda":
            predictor.warm_up(1)
        return predictor

    def __reduce__(self) -> tuple[Any, ...]:
        if self._load_again is None:
            raise TypeError(
                "this Predictor was made around a session, which belongs to its process; make it with Predictor.load, "
                "or load it in every process"
            )
        return _loaded_again, (self._load_again, self.bundle.files)

    @property
    def inputs(self) -> dict[str, BundleInput]:
        """Input -> its manifest column, modality and tensors."""
        return dict(self.bundle.inputs)

    @property
    def modalities(self) -> dict[str, str]:
        """Input -> modality."""
        return {name: entry.modality for name, entry in self.bundle.inputs.items()}

    @property
    def tasks(self) -> dict[str, str]:
        """Task -> type."""
        return dict(self.bundle.tasks)

    @property
    def embedding_dim(self) -> int:
        """Dimension of the output ``embedding``; 0 where the bundle has none."""
        return self.output_dim(EMBEDDING) if self.bundle.embedding else 0

    def output_dim(self, name: str) -> int:
        """Dimension of the raw outputs of a task, or of ``embedding``."""
        return output_sizes(self.session)[name][-1]

    def run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Raw outputs ``[b c]`` for arrays that are already preprocessed.

        Args:
            feed: the graph's inputs, ``<input>.<tensor>`` and ``<input>.present``, all of them.
        """
        return self._run(feed)

    def warm_up(self, *batch_sizes: int) -> None:
        """Runs blank batches of these sizes, so that kernels are chosen and memory is taken before the first record."""
        blank = {name: (preprocessor.blank(), True) for name, preprocessor in self._preprocessors.items()}
        for size in batch_sizes:
            self.outputs([blank] * size)

    @overload
    def predict(
        self, records: Any, *, batch_size: int = ..., on_error: Literal["raise"] = ...
    ) -> list[dict[str, Prediction]]: ...

    @overload
    def predict(self, records: Any, *, batch_size: int = ..., on_error: OnError) -> list[RecordResult]: ...

    def predict(self, records: Any, *, batch_size: int = 32, on_error: OnError = "raise") -> list[Any]:
        """Predictions of each record, in order: task -> Prediction (and ``embedding``, where the bundle has it).

        Args:
            records: a list of dicts with inputs or their columns as keys; or a manifest (its path, ``Records`` or a
                DataFrame) with the columns that training used. A missing input is left out, or None; other keys
                and columns are ignored.
            batch_size: records at a time.
            on_error: "raise" stops at the first record that cannot be used; "return" puts its RecordError in
                the record's place.

        Raises:
            RecordError: for a value that is given but cannot be used, for a record of which every input is
                missing, for a key that is probably a misspelt input, and for a record whose outputs are not finite.
            ManifestError: if a manifest has none of the inputs' columns, or misspells one.
        """
        return self._model.predict(records, batch_size=batch_size, on_error=on_error)

    def predict_table(self, data: Any, *, batch_size: int = 32, on_error: OnError = "raise") -> "pandas.DataFrame":
        """Predictions of a table as a DataFrame with the table's index, which can be joined to it.

        Columns are those of ``multimodal predict``, and ``<task>_probability_<label>`` for every label.

        Args:
            data: a manifest (its path, ``Records`` or a DataFrame), or a list of dicts with input names as keys.
            batch_size: records at a time.
            on_error: "raise" stops at the first record that cannot be used; "return" leaves its cells empty and puts
                the reason into the column ``error``.

        Raises:
            RecordError, ManifestError: as ``predict``.
            ModuleNotFoundError: if pandas is not installed.
        """
        return self._model.predict_table(data, batch_size=batch_size, on_error=on_error)

    def predict_batches(
        self, records: Any, *, batch_size: int = 32, on_error: OnError = "raise", look_ahead: int = 0
    ) -> Iterator[list[RecordResult]]:
        """Predictions batch by batch, in constant memory; ``records`` may be a generator.

        Args:
            look_ahead: batches read beyond the next one: records of similar length then share a batch, and reading
                overlaps with the model. 0 reads no record before its batch is wanted.
        """
        return self._model.predict_batches(records, batch_size=batch_size, on_error=on_error, look_ahead=look_ahead)

    def read(self, record: Mapping[str, Any], row: int = 0) -> Sample:
        """Arrays of one record, a dict with input names as keys; ``outputs`` takes them.

        Args:
            row: of the record, for the error.

        Raises:
            RecordError: as ``predict``.
        """
        sample = open_source([record], self._model.readers, strict_keys=True).read(row, record)
        if isinstance(sample, RecordError):
            raise sample
        return sample

    def outputs(self, samples: Sequence[Sample]) -> dict[str, np.ndarray]:
        """Raw outputs ``[b c]`` of samples, as ``read`` returns them, in one batch."""
        return self.run(flat_feed(stack_inputs(self._model.readers, samples)))

    def decode(self, samples: Sequence[Sample], outputs: Mapping[str, np.ndarray]) -> list[dict[str, Prediction]]:
        """Predictions of each sample from raw outputs: task -> Prediction."""
        return self._model.decode(samples, outputs)

    @property
    def preprocessors(self) -> dict[str, Preprocessor]:
        """Input -> preprocessor."""
        return dict(self._preprocessors)

    def record_model(self) -> RecordModel:
        """The bundle as explanations see it."""
        return self._model


def _loaded_again(load: Callable[[], Predictor], files: Mapping[str, FileEntry]) -> Predictor:
    predictor = load()
    if predictor.bundle.files != files:
        raise BundleError(
            f"{predictor.bundle.folder} holds another bundle than the one of this Predictor; put that one there, or "
            "load the folder with Predictor.load"
        )
    return predictor


def flat_feed(stacked: Mapping[str, Arrays]) -> dict[str, np.ndarray]:
    """Inputs of the graph: ``<input>.<tensor>``."""
    return {f"{name}.{key}": array for name, arrays in stacked.items() for key, array in arrays.items()}
