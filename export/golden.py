"""Golden records: preprocessed arrays, the model's outputs for them and what they mean. Never imports torch."""

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from encoders.preprocessing import Arrays
from export.bundle import Bundle, BundleError
from multimodal.decoding import Decoding, Prediction
from multimodal.runtime.files import replacing, write_json

INPUTS, OUTPUTS, ANSWERS_FILE = "inputs", "outputs", "answers.json"


def write_golden(
    folder: Path,
    batch: Mapping[str, Arrays],
    outputs: Mapping[str, np.ndarray],
    decodings: Mapping[str, Decoding],
    *,
    rows: Sequence[int] | None,
    source: str,
) -> None:
    """Writes ``inputs/<input>.<tensor>.npy``, ``outputs/<output>.npy`` and ``answers.json``.

    Args:
        outputs: raw, as torch gave them.
        rows: of the table that the records come from, from 0; None where they were invented.
        source: "validation" records of the run, records "given" to the export, or "invented" ones.
    """
    for name, arrays in batch.items():
        for key, array in arrays.items():
            _save(folder / INPUTS / f"{name}.{key}.npy", array)
    for name, array in outputs.items():
        _save(folder / OUTPUTS / f"{name}.npy", array)
    answers = {task: golden_predictions(decoding, outputs[task]) for task, decoding in decodings.items()}
    write_json(folder / ANSWERS_FILE, {"source": source, "rows": rows, "answers": answers})


def write_golden_outputs(folder: Path, precision: str, outputs: Mapping[str, np.ndarray]) -> None:
    """Writes ``<precision>/<output>.npy``: what the graph in a smaller precision gave for the same records."""
    for name, array in outputs.items():
        _save(folder / precision / f"{name}.npy", array)


def read_golden_outputs(bundle: Bundle, precision: str) -> dict[str, np.ndarray]:
    """The raw outputs in a smaller precision.

    Raises:
        BundleError: if the bundle has none, or one is no array of numbers.
    """
    found = {}
    for name in bundle.files:
        file = name.removeprefix(f"golden/{precision}/")
        if file != name and file.endswith(".npy"):
            found[file.removesuffix(".npy")] = _load(bundle.path(name))
    if not found:
        raise BundleError(f"{bundle.folder} has no golden answers in {precision}; export it again")
    return found


def read_golden(bundle: Bundle) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, list[Any]]]:
    """The feed ``<input>.<tensor>``, the raw outputs, and the answers of each task.

    Raises:
        BundleError: if the bundle has none, or one is no array of numbers.
    """
    found: dict[str, dict[str, np.ndarray]] = {INPUTS: {}, OUTPUTS: {}}
    for name in bundle.files:
        kind, _, file = name.removeprefix("golden/").partition("/")
        if name.startswith("golden/") and kind in found and file.endswith(".npy"):
            found[kind][file.removesuffix(".npy")] = _load(bundle.path(name))
    if not found[INPUTS] or not found[OUTPUTS]:
        raise BundleError(f"{bundle.folder} has no golden records, so nothing shows that it answers; export it again")
    content = bundle.read_json(f"golden/{ANSWERS_FILE}")
    answers = content.get("answers") if isinstance(content, dict) else None
    if not isinstance(answers, dict):
        raise BundleError(f"{bundle.folder}: golden/{ANSWERS_FILE} holds no answers; export it again")
    return found[INPUTS], found[OUTPUTS], answers


def golden_predictions(decoding: Decoding, outputs: np.ndarray) -> list[dict[str, Any]]:
    """What the outputs mean, JSON, one entry a record."""
    return [_to_json(prediction) for prediction in decoding.predictions(outputs)]


def _to_json(prediction: Prediction) -> dict[str, Any]:
    return {
        "label": prediction.label,
        "labels": list(prediction.labels),
        "probability": prediction.probability,
        "probabilities": prediction.probabilities,
        "value": prediction.value,
    }


def _load(path: Path) -> np.ndarray:
    """An array of numbers; its header is not believed before it agrees with the file's size."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read_header = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read_header(file)
            if prod(shape) * dtype.itemsize != path.stat().st_size - file.tell():
                raise ValueError(f"{dtype} {list(shape)} is not what the file holds")
            if dtype.kind not in "biuf" or not shape:
                raise ValueError(f"{dtype} {list(shape)} are no numbers of records")
        return np.asarray(np.load(path, allow_pickle=False))
    except (ValueError, EOFError, TokenError, MemoryError, RecursionError) as error:  # NumPy parses headers as Python
        raise BundleError(f"{path} is no array that can be read ({error}); export it again") from error


def _save(path: Path, array: np.ndarray) -> None:
    with replacing(path) as partial, partial.open("wb") as file:
        np.save(file, array, allow_pickle=False)
