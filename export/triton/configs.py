"""``config.pbtxt`` of each model of the ensemble, as Triton's ``ModelConfig``. Never imports torch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from export.bundle import Bundle
from export.triton.pbtxt import Word
from multimodal.decoding import EMBEDDING, Decoding

TYPES = {
    **{f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
    "bool": "BOOL",
}
MAX_DELAY = 2000
"""Largest wait of a request for others to share its batch, in microseconds."""
Message = dict[str, Any]
Shapes = Mapping[str, Sequence[int]]
"""Name of a tensor -> its axes, without the batch."""


def graph_config(
    bundle: Bundle,
    name: str,
    shapes: Shapes,
    blank: Shapes,
    max_batch_size: int,
) -> Message:
    """Config of the ONNX graph: batches requests, warms up, runs on a GPU where there is one.

    Args:
        shapes: output -> its axes without the batch, -1 for one that varies.
        blank: ``<input>.<tensor>`` -> its shape, without the batch, where a value is missing.
    """
    inputs = [*_tensors(bundle), *({**entry, "reshape": {}} for entry in _presence(bundle))]
    return {
        "name": name,
        "backend": "onnxruntime",
        "max_batch_size": max_batch_size,
        "input": inputs,
        "output": [_tensor(output, "FP32", shape) for output, shape in shapes.items()],
        "dynamic_batching": {"max_queue_delay_microseconds": MAX_DELAY},
        "instance_group": {"kind": Word("KIND_AUTO"), "count": 1},
        "model_warmup": [_warmup(f"batch_{size}", size, inputs, blank) for size in dict.fromkeys((1, max_batch_size))],
    }


def preprocess_config(bundle: Bundle, name: str, max_batch_size: int, instances: int) -> Message:
    """Config of the Python model that turns raw values into the graph's inputs."""
    return {
        **_python(name, max_batch_size, instances),
        "input": _raw(bundle),
        "output": [*_tensors(bundle), *_presence(bundle)],
    }


def prediction_tensors(decodings: Mapping[str, Decoding], shapes: Shapes) -> list[Message]:
    """Columns of every task's predictions as tensors, and vectors."""
    found = []
    for task, decoding in decodings.items():
        found += [_tensor(task, "FP32", shapes[task])] if decoding.is_vector else []
        for suffix, kind in decoding.columns.items():
            found.append(_tensor(task + suffix, "STRING" if kind == "string" else "FP32", [1]))
    return found


def postprocess_config(name: str, decodings: Mapping[str, Decoding], shapes: Shapes, max_batch_size: int) -> Message:
    """Config of the Python model that turns raw outputs into predictions."""
    return {
        **_python(name, max_batch_size, 1),
        "input": [_tensor(task, "FP32", shapes[task]) for task in decodings],
        "output": prediction_tensors(decodings, shapes),
    }


def ensemble_config(
    bundle: Bundle,
    names: Mapping[str, str],
    decodings: Mapping[str, Decoding],
    shapes: Shapes,
    max_batch_size: int,
) -> Message:
    """Config of the ensemble of the three models: raw values in, predictions out.

    Args:
        names: "ensemble", "preprocess", "graph" and "answer" -> name of the model.
    """
    tensors = [entry["name"] for entry in (*_tensors(bundle), *_presence(bundle))]
    raw = {name: f"raw.{name}" for name in bundle.inputs}
    predicted = prediction_tensors(decodings, shapes)
    own = {entry["name"]: entry["name"] for entry in predicted}
    fused = {EMBEDDING: EMBEDDING} if bundle.embedding else {}
    outputs = {task: f"outputs.{task}" for task in bundle.tasks}
    embedding = [_tensor(EMBEDDING, "FP32", shapes[EMBEDDING])] if bundle.embedding else []
    return {
        "name": names["ensemble"],
        "platform": "ensemble",
        "max_batch_size": max_batch_size,
        "input": [{**entry, "name": raw[entry["name"]]} for entry in _raw(bundle)],
        "output": [*predicted, *embedding],
        "ensemble_scheduling": {
            "step": [
                _step(names["preprocess"], raw, {name: name for name in tensors}),
                _step(names["graph"], {name: name for name in tensors}, outputs | fused),
                _step(names["answer"], outputs, own),
            ]
        },
    }


def _python(name: str, max_batch_size: int, instances: int) -> Message:
    group = {"kind": Word("KIND_CPU"), "count": instances}
    return {"name": name, "backend": "python", "max_batch_size": max_batch_size, "instance_group": group}


def _step(model: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> Message:
    return {
        "model_name": model,
        "model_version": -1,
        "input_map": [{"key": name, "value": tensor} for name, tensor in inputs.items()],
        "output_map": [{"key": name, "value": tensor} for name, tensor in outputs.items()],
    }


def _raw(bundle: Bundle) -> list[Message]:
    return [_tensor(name, "STRING", [1]) for name in bundle.inputs]


def _tensors(bundle: Bundle) -> list[Message]:
    return [
        _tensor(f"{name}.{spec.name}", TYPES[spec.dtype], [a if isinstance(a, int) else -1 for a in spec.axes[1:]])
        for name, entry in bundle.inputs.items()
        for spec in entry.tensors
    ]


def _presence(bundle: Bundle) -> list[Message]:
    return [_tensor(f"{name}.present", "BOOL", [1]) for name in bundle.inputs]


def _tensor(name: str, kind: str, dims: Iterable[int]) -> Message:
    return {"name": name, "data_type": Word(f"TYPE_{kind}"), "dims": list(dims)}


def _warmup(name: str, batch_size: int, inputs: Iterable[Message], blank: Shapes) -> Message:
    """Records of which every input is missing, as zeros."""
    values = [
        {
            "key": entry["name"],
            "value": {
                "data_type": entry["data_type"],
                "dims": list(blank.get(entry["name"], entry["dims"])),
                "zero_data": True,
            },
        }
        for entry in inputs
    ]
    return {"name": name, "batch_size": batch_size, "inputs": values}
