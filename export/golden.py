"""Golden records: preprocessed arrays, their outputs and predictions. Never imports torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from encoders.preprocessing import Arrays
from export.bundle import Bundle, BundleError
from export.predictor import flat_feed
from multimodal.decoding import Decoding, Prediction
from multimodal.runtime.files import replacing, write_json

_NOT_COMPARED = ("embedding", "missing")
INPUTS, OUTPUTS, PREDICTIONS_FILE = "inputs", "outputs", "answers.json"


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
        rows: of the table that the records come from, from 0; None for synthetic ones.
        source: "validation" for records of the run, "given" to the export, or "invented" for synthetic ones.
    """
    write_golden_outputs(folder, INPUTS, flat_feed(batch))
    write_golden_outputs(folder, OUTPUTS, outputs)
    predictions = {task: golden_predictions(decoding, outputs[task]) for task, decoding in decodings.items()}
    write_json(folder / PREDICTIONS_FILE, {"source": source, "rows": rows, "answers": predictions})


def write_golden_outputs(folder: Path, precision: str, outputs: Mapping[str, np.ndarray]) -> None:
    """Writes ``<precision>/<output>.npy``: the outputs of a smaller precision for the same records."""
    for name, array in outputs.items():
        with replacing(folder / precision / f"{name}.npy") as partial, partial.open("wb") as file:
            np.save(file, array, allow_pickle=False)


def read_golden_outputs(bundle: Bundle, precision: str) -> dict[str, np.ndarray]:
    """Raw outputs of a smaller precision.

    Raises:
        BundleError: if the bundle has none, or one is no array of numbers.
    """
    found = _arrays(bundle, precision)
    if not found:
        raise BundleError(f"{bundle.folder} has no golden outputs in {precision}; export it again")
    return found


def read_golden(bundle: Bundle) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, list[Any]]]:
    """Feed ``<input>.<tensor>``, raw outputs, and the predictions of each task as JSON.

    Raises:
        BundleError: if the bundle has none, or one is no array of numbers.
    """
    inputs, outputs = _arrays(bundle, INPUTS), _arrays(bundle, OUTPUTS)
    if not inputs or not outputs:
        raise BundleError(f"{bundle.folder} has no golden records, so nothing shows that it works; export it again")
    content = bundle.read_json(f"golden/{PREDICTIONS_FILE}")
    predictions = content.get("answers") if isinstance(content, dict) else None
    if not isinstance(predictions, dict):
        raise BundleError(f"{bundle.folder}: golden/{PREDICTIONS_FILE} holds no predictions; export it again")
    return inputs, outputs, predictions


def _arrays(bundle: Bundle, kind: str) -> dict[str, np.ndarray]:
    """Arrays in a folder of the golden records."""
    folder, suffix = f"golden/{kind}/", ".npy"
    names = [name for name in bundle.files if name.startswith(folder) and name.endswith(suffix)]
    return {name.removeprefix(folder).removesuffix(suffix): _load(bundle.path(name)) for name in names}


def golden_predictions(decoding: Decoding, outputs: np.ndarray) -> list[dict[str, Any]]:
    """Predictions as JSON, one entry per record."""
    return [_to_json(prediction) for prediction in decoding.predictions(outputs)]


def _to_json(prediction: Prediction) -> dict[str, Any]:
    """Fields of the prediction; vectors are the outputs themselves."""
    values = {entry.name: getattr(prediction, entry.name) for entry in fields(prediction)}
    return json.loads(json.dumps({key: value for key, value in values.items() if key not in _NOT_COMPARED}))


def _load(path: Path) -> np.ndarray:
    """Reads an array of numbers; its header must agree with the file's size before it is believed."""
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
