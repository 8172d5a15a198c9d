"""``config.pbtxt`` of each model of the ensemble, as Triton's ``ModelConfig``. Never imports torch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from encoders.preprocessing import TensorSpec
from export.bundle import Bundle
from export.triton.pbtxt import Word
from multimodal.decoding import EMBEDDING

TYPES = {
    **{f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
    "bool": "BOOL",
}
MAX_DELAY = 2000
"""Largest wait of a request for others to share its batch, in microseconds."""
Message = dict[str, Any]


def graph_config(
    bundle: Bundle, name: str, output_dims: Mapping[str, int], blank: Mapping[str, Sequence[int]], max_batch_size: int
) -> Message:
    """Config of the ONNX graph: batches requests, warms up, runs on a GPU where there is one.

    Args:
        output_dims: output -> its dimension.
        blank: ``<input>.<tensor>`` -> its shape, without the batch, where a value is missing.
    """
    inputs = [*_tensors(bundle), *({**entry, "reshape": {}} for entry in _presence(bundle))]
    return {
        "name": name,
        "backend": "onnxruntime",
        "max_batch_size": max_batch_size,
        "input": inputs,
        "output": [_tensor(output, "FP32", [dim]) for output, dim in output_dims.items()],
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


def postprocess_config(bundle: Bundle, name: str, output_dims: Mapping[str, int], max_batch_size: int) -> Message:
    """Config of the Python model that turns raw outputs into predictions."""
    return {
        **_python(name, max_batch_size, 1),
        "input": [_tensor(task, "FP32", [output_dims[task]]) for task in bundle.tasks],
        "output": _predictions(bundle, output_dims),
    }


def ensemble_config(
    bundle: Bundle, names: Mapping[str, str], output_dims: Mapping[str, int], max_batch_size: int
) -> Message:
    """Config of the ensemble of the three models: raw values in, predictions out.

    Args:
        names: "ensemble", "preprocess", "graph" and "answer" -> name of the model.
    """
    tensors = [entry["name"] for entry in (*_tensors(bundle), *_presence(bundle))]
    raw = {name: f"raw.{name}" for name in bundle.inputs}
    own = {entry["name"]: entry["name"] for entry in _predictions(bundle, output_dims)}
    fused = {EMBEDDING: EMBEDDING} if bundle.embedding else {}
    outputs = {task: f"outputs.{task}" for task in bundle.tasks}
    embedding = [_tensor(EMBEDDING, "FP32", [output_dims[EMBEDDING]])] if bundle.embedding else []
    return {
        "name": names["ensemble"],
        "platform": "ensemble",
        "max_batch_size": max_batch_size,
        "input": [{**entry, "name": raw[entry["name"]]} for entry in _raw(bundle)],
        "output": [*_predictions(bundle, output_dims), *embedding],
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
        _tensor(f"{name}.{spec.name}", TYPES[spec.dtype], _dims(spec))
        for name, entry in bundle.inputs.items()
        for spec in entry.tensors
    ]


def _presence(bundle: Bundle) -> list[Message]:
    return [_tensor(f"{name}.present", "BOOL", [1]) for name in bundle.inputs]


def _predictions(bundle: Bundle, output_dims: Mapping[str, int]) -> list[Message]:
    found = []
    for task, kind in bundle.tasks.items():
        if kind in ("regression", "embedding"):
            found.append(_tensor(task, "FP32", [1 if kind == "regression" else output_dims[task]]))
        else:
            found += [_tensor(task, "STRING", [1]), _tensor(f"{task}_probability", "FP32", [1])]
    return found


def _tensor(name: str, kind: str, dims: Iterable[int]) -> Message:
    return {"name": name, "data_type": Word(f"TYPE_{kind}"), "dims": list(dims)}


def _dims(spec: TensorSpec) -> list[int]:
    """Sizes without the batch; -1 for one that varies."""
    return [axis if isinstance(axis, int) else -1 for axis in spec.axes[1:]]


def _warmup(name: str, batch_size: int, inputs: Iterable[Message], blank: Mapping[str, Sequence[int]]) -> Message:
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
