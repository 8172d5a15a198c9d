"""Conversion of tensors to the model's inputs and back, checked against the bundle."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np

from encoders.preprocessing import Preprocessor, TensorSpec
from export.predictor import Predictor
from export.serving.responses import RequestError
from export.serving.settings import Limits
from export.serving.tensors import BINARY_SIZE, DATATYPES, from_bytes, parameter_of, to_array
from multimodal.inference.sources import Sample

PRESENT = TensorSpec("present", "bool", ("batch",))
_LONGEST = {"tokens": "max_tokens", "samples": "max_samples"}
"""Name of a varying axis -> attribute of a preprocessor with its largest size."""
MAX_AXIS = 10_000
"""Largest size of another varying axis."""


def tensor_metadata(predictor: Predictor) -> dict[str, Any]:
    """Metadata of a model in the protocol."""
    inputs = [
        {"name": f"{name}.{spec.name}", "datatype": DATATYPES[spec.dtype], "shape": _shape(spec)}
        for name, entry in predictor.inputs.items()
        for spec in (*entry.tensors, PRESENT)
    ]
    outputs = [
        {"name": output.name, "datatype": "FP32", "shape": [-1, *output.shape[1:]]}
        for output in predictor.session.get_outputs()
    ]
    return {"platform": "onnxruntime_onnx", "inputs": inputs, "outputs": outputs}


def samples_of_tensors(predictor: Predictor, tensors: Sequence[Any], data: bytes, limits: Limits) -> list[Sample]:
    """Records from the tensors of a request.

    An input without tensors is missing in every record; ``<input>.present`` may be left out if the others are given.

    Args:
        data: of those tensors that are sent as bytes, one after another.

    Raises:
        RequestError: 400 for a tensor that is unknown, of another type or shape, out of range, or there twice; 413 if
            too large.
    """
    specs = {
        f"{name}.{spec.name}": spec for name, entry in predictor.inputs.items() for spec in (*entry.tensors, PRESENT)
    }
    if len(tensors) > len(specs):
        raise RequestError(400, f"there are {len(tensors)} tensors, and the model has {len(specs)}; send each once")
    arrays: dict[str, np.ndarray] = {}
    stream = BytesIO(data)
    for tensor in tensors:
        name, array = _array(tensor, specs, stream, limits)
        if name in arrays:
            raise RequestError(400, f"{name}: is there twice; send it once")
        arrays[name] = array
    left = len(data) - stream.tell()
    if left:
        raise RequestError(400, f"{left} bytes belong to no tensor; give each its binary_data_size")
    sizes = {len(array) for array in arrays.values()}
    if len(sizes) != 1:
        raise RequestError(400, f"the tensors have batches of {sorted(sizes) or 'nothing'}; send one size")
    (batch,) = sizes
    if batch > limits.max_records:
        raise RequestError(413, f"the batch has {batch} records; at most {limits.max_records} are allowed, send fewer")
    columns = {
        name: _column(name, entry.tensors, predictor.preprocessors[name], arrays, batch)
        for name, entry in predictor.inputs.items()
    }
    samples = [{name: column[row] for name, column in columns.items()} for row in range(batch)]
    for row, sample in enumerate(samples):
        if not any(present for _, present in sample.values()):
            raise RequestError(400, "every input is missing; give at least one", record=row)
    return samples


def _array(tensor: Any, specs: dict[str, TensorSpec], stream: BytesIO, limits: Limits) -> tuple[str, np.ndarray]:
    name = tensor.get("name") if isinstance(tensor, dict) else None
    if not isinstance(name, str) or name not in specs:
        raise RequestError(400, f"there is no tensor {str(name)[:100]!r}; there are {', '.join(specs)}")
    spec, shape = specs[name], tensor.get("shape")
    if tensor.get("datatype") != DATATYPES[spec.dtype]:
        raise RequestError(400, f"{name}: the datatype is not {DATATYPES[spec.dtype]}; convert it")
    size = parameter_of(tensor, name, BINARY_SIZE, int)
    if size is None:
        array = to_array(name, shape, tensor.get("data"), spec.dtype, limits.max_tensor_values)
    elif "data" in tensor or size < 0:
        raise RequestError(400, f"{name}: has data beside its binary_data_size, or less than none; send either")
    else:
        array = from_bytes(name, shape, stream.read(min(size, limits.max_body_bytes)), spec.dtype)
    fits = array.ndim == len(spec.axes) and all(
        isinstance(axis, str) or axis == size for axis, size in zip(spec.axes, array.shape, strict=True)
    )
    if not fits:
        raise RequestError(400, f"{name}: the shape is {list(array.shape)}, and {_shape(spec)} is expected (-1: any)")
    return name, array


def _column(
    name: str,
    specs: Sequence[TensorSpec],
    preprocessor: Preprocessor,
    arrays: dict[str, np.ndarray],
    batch: int,
) -> list[tuple[dict[str, np.ndarray], bool]]:
    """One input of all records."""
    given = {spec.name: arrays[f"{name}.{spec.name}"] for spec in specs if f"{name}.{spec.name}" in arrays}
    present = arrays.get(f"{name}.present", np.full(batch, bool(given)))
    if not given and not present.any():
        return [(preprocessor.blank(), False)] * batch
    absent = [spec.name for spec in specs if spec.name not in given]
    if absent:
        raise RequestError(400, f"{name}: has no {', '.join(absent)}; give all tensors of an input, or none")
    for key, most in getattr(preprocessor, "largest_values", {}).items():
        smallest, largest = given[key].min(), given[key].max()
        if smallest < 0 or largest > most:
            raise RequestError(400, f"{name}.{key}: has values of {smallest} to {largest}; give 0 to {most}")
    lengths: dict[str, int] = {}
    for spec in specs:
        for axis, size in zip(spec.axes[1:], given[spec.name].shape[1:], strict=True):
            if isinstance(axis, str) and lengths.setdefault(axis, size) != size:
                raise RequestError(400, f"{name}: has {lengths[axis]} and {size} {axis}; give all tensors one size")
    for axis, size in lengths.items():
        most = getattr(preprocessor, _LONGEST.get(axis, ""), MAX_AXIS)
        if size > most:
            raise RequestError(413, f"{name}: has {size} {axis}; at most {most} are allowed, cut it")
    return [({key: values[row] for key, values in given.items()}, bool(present[row])) for row in range(batch)]


def _shape(spec: TensorSpec) -> list[int]:
    return [-1 if isinstance(axis, str) else axis for axis in spec.axes]
