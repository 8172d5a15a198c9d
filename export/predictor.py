"""Answers from a bundle, in any process: onnxruntime and the preprocessing of training. Never imports torch."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import onnxruntime as ort

from encoders.preprocessing import Arrays, Preprocessor, load_preprocessor
from export.answers import Answer, write_predictions
from export.bundle import Bundle, BundleError, BundleInput, read_bundle
from export.session import open_session, session_device
from export.sources import RecordSource, Sample, open_source
from multimodal.decoding import EMBEDDING, Decoding, Prediction, decoding_from_config
from multimodal.explain.black_box import BlackBox
from multimodal.records import InputReader, RecordError, stack_inputs

__all__ = ["Answer", "Predictor", "write_predictions"]

OnError = Literal["raise", "return"]
_ONNX_TYPES = {"float32": "float", "float64": "double"}  # the others have the same name


class Predictor:
    """A bundle, loaded. ``Predictor.load`` makes one; it may be used from several threads.

    Args:
        bundle: as read, its files checked.
        session: of one of its models.
        preprocessors: input -> what prepares its values.
    """

    def __init__(
        self, bundle: Bundle, session: ort.InferenceSession, preprocessors: Mapping[str, Preprocessor]
    ) -> None:
        self.bundle = bundle
        self.session = session
        self.device = session_device(session)
        """ "cpu" or "cuda": where the model really runs."""
        self.decodings: dict[str, Decoding] = {task: load_decoding(bundle, task) for task in bundle.tasks}
        self._preprocessors = dict(preprocessors)
        self._outputs = [output.name for output in session.get_outputs()]

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
    ) -> "Predictor":
        """Checks a bundle's files and loads it.

        Args:
            device: "cpu", "cuda", "cuda:1", or "auto": CUDA where it works, else the CPU.
            precision: "fp32" or another one that the bundle holds; "auto" is fp32.
            strict: on CUDA, refuse a model of which any node would run on the CPU.
            threads: of one operator on the CPU; None takes every core that this process may use.
            allow_plugins: preprocessors of other distributions that may be loaded, which runs their code.

        Raises:
            BundleError: if the folder is no bundle, or not as it was written.
            DeviceError: if "cuda" was asked for and cannot be had.
            LookupError: if the bundle wants a preprocessor that is not allowed or not installed.
            ValueError: if an argument is out of range.
        """
        bundle = read_bundle(folder)
        preprocessors = {
            name: load_preprocessor(bundle.folder / "inputs" / name, allow_plugins=allow_plugins)
            for name in bundle.inputs
        }
        model = model_file(bundle, precision)
        session = open_session(model, device=device, strict=strict, threads=threads)
        check_signature(bundle, session)
        return cls(bundle, session, preprocessors)

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
    def embedding_width(self) -> int:
        """Width of the output ``embedding``; 0 where the bundle has none."""
        return self.output_width(EMBEDDING) if self.bundle.embedding else 0

    def output_width(self, name: str) -> int:
        """Width of a task's raw outputs, or of ``embedding``."""
        return int({output.name: output.shape[-1] for output in self.session.get_outputs()}[name])

    def run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Raw outputs ``[b c]`` for arrays that are already preprocessed.

        Args:
            feed: the graph's inputs, ``<input>.<tensor>`` and ``<input>.present``, all of them.
        """
        return dict(zip(self._outputs, self.session.run(self._outputs, dict(feed)), strict=True))

    @overload
    def predict(
        self, records: Any, *, batch_size: int = ..., on_error: Literal["raise"] = ...
    ) -> list[dict[str, Prediction]]: ...

    @overload
    def predict(self, records: Any, *, batch_size: int = ..., on_error: OnError) -> list[Answer]: ...

    def predict(self, records: Any, *, batch_size: int = 32, on_error: OnError = "raise") -> list[Any]:
        """One answer a record, in order: task -> Prediction (and ``embedding``, where the bundle has it).

        Args:
            records: a list of dicts with input names as keys; or a manifest (its path, ``Records`` or a
                DataFrame) with the columns that training used. A missing input is left out, or None.
            batch_size: records at a time.
            on_error: "raise" stops at the first record that cannot be used; "return" puts its RecordError in
                the record's place.

        Raises:
            RecordError: for a value that is given but cannot be used, for a record of which every input is
                missing, and for a key that is no input.
            ManifestError: if a manifest has none of the inputs' columns, or misspells one.
        """
        batches = self.predict_batches(records, batch_size=batch_size, on_error=on_error)
        return [answer for batch in batches for answer in batch]

    def predict_batches(
        self, records: Any, *, batch_size: int = 32, on_error: OnError = "raise"
    ) -> Iterator[list[Answer]]:
        """The same batch by batch, so that memory does not grow with the table; ``records`` may be a generator."""
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; give at least 1")
        if on_error not in ("raise", "return"):
            raise ValueError(f"on_error is {on_error!r}; give 'raise' or 'return'")
        source = open_source(records, self.bundle.inputs, self._preprocessors)
        return self._batches(source, batch_size, on_error)

    def black_box(self) -> BlackBox:
        """What explains its answers."""
        return BlackBox(
            {name: InputReader(name, entry.column, self._preprocessors[name]) for name, entry in self.inputs.items()},
            self.decodings,
            lambda stacked: self.run(flat_feed(stacked)),
            has_embedding=self.bundle.embedding,
        )

    def _batches(self, source: RecordSource, batch_size: int, on_error: OnError) -> Iterator[list[Answer]]:
        rows = iter(enumerate(source.rows))
        while batch := list(islice(rows, batch_size)):
            read = [source.read(number, row) for number, row in batch]
            for sample in read:
                if isinstance(sample, RecordError) and on_error == "raise":
                    raise sample
            answers = iter(self._answer([sample for sample in read if not isinstance(sample, RecordError)], source))
            yield [sample if isinstance(sample, RecordError) else next(answers) for sample in read]

    def _answer(self, samples: list[Sample], source: RecordSource) -> list[dict[str, Prediction]]:
        if not samples:
            return []
        stacked = stack_inputs(source.readers, samples)
        outputs = self.run(flat_feed(stacked))
        by_task = {task: decoding.predictions(outputs[task]) for task, decoding in self.decodings.items()}
        if self.bundle.embedding:
            by_task[EMBEDDING] = [Prediction(embedding=vector) for vector in outputs[EMBEDDING]]
        missing = [tuple(name for name, (_, present) in sample.items() if not present) for sample in samples]
        return [
            {task: replace(predictions[row], missing=missing[row]) for task, predictions in by_task.items()}
            for row in range(len(samples))
        ]


def flat_feed(stacked: Mapping[str, Arrays]) -> dict[str, np.ndarray]:
    """The graph's inputs: ``<input>.<tensor>``."""
    return {f"{name}.{key}": array for name, arrays in stacked.items() for key, array in arrays.items()}


def model_file(bundle: Bundle, precision: str = "auto") -> Path:
    """The bundle's ONNX file for a precision.

    Raises:
        ValueError: if the bundle has none.
    """
    wanted = "fp32" if precision == "auto" else precision
    if wanted not in bundle.models:
        raise ValueError(
            f"precision is {precision!r}; this bundle holds {', '.join(bundle.models)}, so give one of them or 'auto'"
        )
    return bundle.path(bundle.models[wanted])


def load_decoding(bundle: Bundle, task: str) -> Decoding:
    """What turns the task's raw outputs into answers."""
    return decoding_from_config(bundle.read_json(f"tasks/{task}.json")["decoding"])


def check_signature(bundle: Bundle, session: ort.InferenceSession) -> None:
    """Checks that the graph has the inputs and outputs that the bundle declares.

    Raises:
        BundleError: if it has others.
    """
    declared = {}
    for name, entry in bundle.inputs.items():
        for spec in entry.tensors:
            axes = [f"{name}_{axis}" if isinstance(axis, str) and axis != "batch" else axis for axis in spec.axes]
            declared[f"{name}.{spec.name}"] = (f"tensor({_ONNX_TYPES.get(spec.dtype, spec.dtype)})", axes)
        declared[f"{name}.present"] = ("tensor(bool)", ["batch"])
    found = {value.name: (value.type, list(value.shape)) for value in session.get_inputs()}
    outputs = [*bundle.tasks, *([EMBEDDING] if bundle.embedding else [])]
    if found != declared or [value.name for value in session.get_outputs()] != outputs:
        raise BundleError(
            f"{bundle.folder}: the ONNX graph takes {found} and gives "
            f"{[value.name for value in session.get_outputs()]}, but the bundle declares {declared} and {outputs}; "
            "export it again"
        )
