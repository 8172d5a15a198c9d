"""Preprocessing and postprocessing of the ensemble, arrays in and arrays out. Never imports torch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from encoders.preprocessing import Arrays, Preprocessor, load_preprocessor
from multimodal.inference.batching import rounded_length
from multimodal.inference.sources import RecordSource, Sample
from multimodal.records import InputReader, RecordError
from multimodal.task_types.registry import task_decoding

SIZES, SHORTEST = 2, 8
"""Lengths per octave, and the smallest: the fewer there are, the more requests share a batch."""


class Preprocessing:
    """Raw values of records -> the graph's inputs, padded to one of few lengths; installed plug-ins are loaded.

    Args:
        folder: with ``inputs/<input>/``, as a bundle has it.
    """

    def __init__(self, folder: Path) -> None:
        folders = {path.name: path for path in sorted((folder / "inputs").iterdir())}
        readers = {name: InputReader(name, name, load_preprocessor(path)) for name, path in folders.items()}
        self.longest = {name: longest_values(_json(path / "preprocess.json")) for name, path in folders.items()}
        self.source = RecordSource((), readers, None, allow_outside=False, strict_keys=True)

    def __call__(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Input -> bytes of each record, object [b 1], empty where it is missing -> arrays ``<input>.<tensor>``.

        Raises:
            RecordError: for the first record that cannot be used.
        """
        columns = {name: [self._value(name, cell) for cell in array.reshape(-1)] for name, array in values.items()}
        rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
        samples = [_usable(self.source.read(number, row)) for number, row in enumerate(rows)]
        feed: dict[str, np.ndarray] = {}
        for name, reader in self.source.readers.items():
            arrays = stack_padded(reader.preprocessor, [sample[name][0] for sample in samples], self.longest[name])
            feed |= {f"{name}.{key}": array for key, array in arrays.items()}
            feed[f"{name}.present"] = np.array([[sample[name][1]] for sample in samples], dtype=bool)
        return feed

    def blank_shapes(self) -> dict[str, tuple[int, ...]]:
        """``<input>.<tensor>`` -> its shape, without the batch, where a value is missing."""
        return {
            f"{name}.{key}": array.shape[1:]
            for name, reader in self.source.readers.items()
            for key, array in stack_padded(
                reader.preprocessor, [reader.preprocessor.blank()], self.longest[name]
            ).items()
        }

    def _value(self, name: str, cell: Any) -> Any:
        content = bytes(cell)
        if not content:
            return None
        if self.source.readers[name].preprocessor.modality != "text":
            return content
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RecordError(0, name, f"the text is not UTF-8 ({error}); send it as UTF-8") from error


def _usable(sample: Sample | RecordError) -> Sample:
    if isinstance(sample, RecordError):
        raise sample
    return sample


class Postprocessing:
    """Raw outputs -> predictions, as ``multimodal predict`` writes them; installed plug-ins are loaded.

    Args:
        folder: with ``tasks/<task>.json``, as a bundle has it.
    """

    def __init__(self, folder: Path) -> None:
        content = {path.stem: _json(path) for path in sorted((folder / "tasks").iterdir())}
        self.decodings = {task: task_decoding(entry) for task, entry in content.items()}

    def __call__(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Task -> raw outputs [b ...] -> columns of its predictions, [b 1]; vectors pass unchanged, [b d]."""
        arrays: dict[str, np.ndarray] = {}
        for task, decoding in self.decodings.items():
            if decoding.is_vector:
                arrays[task] = outputs[task].astype(np.float32)
                continue
            cells = [decoding.cells(prediction) for prediction in decoding.predictions(outputs[task])]
            for place, (suffix, kind) in enumerate(decoding.columns.items()):
                column = [[_tensor_value(row[place], kind)] for row in cells]
                arrays[task + suffix] = np.array(column, dtype=object if kind == "string" else np.float32)
        return arrays


def _tensor_value(cell: str | float | None, kind: str) -> bytes | float:
    if kind == "string":
        return str("" if cell is None else cell).encode()
    return np.nan if cell is None else float(cell)


def longest_values(config: Mapping[str, Any]) -> dict[str, int]:
    """Axis -> its largest size; empty for preprocessors of other distributions, which are not padded.

    Args:
        config: content of ``preprocess.json``.

    >>> longest_values({"kind": "audio", "sample_rate": 16000, "max_seconds": 2.0})
    {'samples': 32000}
    """
    if config["kind"] in ("text", "words"):
        return {"tokens": int(config["max_tokens"])}
    if config["kind"] == "audio":
        return {"samples": int(config["max_seconds"] * config["sample_rate"])}
    return {}


def stack_padded(preprocessor: Preprocessor, samples: Sequence[Arrays], longest: Mapping[str, int]) -> Arrays:
    """Stacks samples as the preprocessor does, its varying axes padded to one of few lengths."""
    stacked = preprocessor.stack(samples)
    filler = {spec.name: np.zeros(_shape(stacked, spec, longest), spec.dtype) for spec in preprocessor.tensors}
    return {name: array[:-1] for name, array in preprocessor.stack([*samples, filler]).items()}


def _shape(stacked: Arrays, spec: Any, longest: Mapping[str, int]) -> tuple[int, ...]:
    """Padded shape of one sample."""
    sizes = zip(stacked[spec.name].shape[1:], spec.axes[1:], strict=True)
    return tuple(
        rounded_length(size, longest[axis], sizes=SIZES, shortest=SHORTEST) if axis in longest else size
        for size, axis in sizes
    )


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
