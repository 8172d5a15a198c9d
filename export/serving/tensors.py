"""Conversion of tensors of the Open Inference Protocol, in JSON or as bytes, to arrays and back.

https://github.com/open-inference/open-inference-protocol, version 2, and its extension for binary data,
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md.
"""

from collections.abc import Sequence
from itertools import chain
from math import prod
from typing import Any, TypeVar

import numpy as np

from export.serving.responses import RequestError

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "int32": "INT32",
    "int64": "INT64",
    "float32": "FP32",
    "float64": "FP64",
}
_PYTHON: dict[str, set[type]] = {"b": {bool}, "u": {int}, "i": {int}, "f": {int, float}}
MAX_AXES = 8
_MAX_SIZE = 2**31 - 1
BINARY_SIZE = "binary_data_size"
_FOREIGN = ("classification", "shared_memory", "sequence")
"""Beginnings of parameters that ask for another answer; the others are hints, such as a priority."""
T = TypeVar("T")


def to_array(name: str, shape: Any, data: Any, dtype: str, max_values: int) -> np.ndarray:
    """Array of a tensor, whose data is flat, row by row, or nested as its shape.

    >>> to_array("x", [2, 1], [3, 4], "int64", 10).tolist()
    [[3], [4]]

    Raises:
        RequestError: 400 if shape and data do not fit, or a value is not of the type; 413 if it is too large.
    """
    _check_shape(name, shape)
    if prod(shape) > max_values:
        raise RequestError(413, f"{name}: has {prod(shape)} values; at most {max_values} are allowed, send less")
    values = _flat(name, shape, data)
    kind = np.dtype(dtype).kind
    if not set(map(type, values)) <= _PYTHON[kind]:
        raise RequestError(400, f"{name}: the data holds something else than {DATATYPES[dtype]}; send such values only")
    try:
        array = np.array(values, dtype).reshape(shape)
    except OverflowError as error:
        raise RequestError(400, f"{name}: the data leaves the range of {DATATYPES[dtype]} ({error})") from error
    _check_finite(name, array)
    return array


def from_bytes(name: str, shape: Any, data: bytes, dtype: str) -> np.ndarray:
    """Array of a tensor in bytes: little-endian, row by row.

    >>> from_bytes("x", [1, 2], b"\\x01\\0\\0\\0\\x02\\0\\0\\0", "int32").tolist()
    [[1, 2]]

    Raises:
        RequestError: 400 if shape and data do not fit, or a value is not of the type.
    """
    _check_shape(name, shape)
    kind = np.dtype(dtype).newbyteorder("<")
    if len(data) != prod(shape) * kind.itemsize:
        raise RequestError(
            400, f"{name}: has {len(data)} bytes, and the shape {shape} needs {prod(shape) * kind.itemsize}; correct it"
        )
    if dtype == "bool" and np.frombuffer(data, np.uint8).max() > 1:
        raise RequestError(400, f"{name}: the data holds bytes above 1, which are no BOOL; send 0 or 1")
    array = np.frombuffer(data, kind).reshape(shape).astype(dtype, copy=False)
    _check_finite(name, array)
    return array


def _check_shape(name: str, shape: Any) -> None:
    if not isinstance(shape, list) or not 1 <= len(shape) <= MAX_AXES or not set(map(type, shape)) <= {int}:
        raise RequestError(400, f"{name}: the shape is not a list of 1 to {MAX_AXES} whole numbers; correct it")
    if min(shape) < 1 or max(shape) > _MAX_SIZE:  # beyond it their product may have more digits than Python prints
        raise RequestError(400, f"{name}: the shape is {shape}; give sizes of at least 1, at most {_MAX_SIZE}")


def _check_finite(name: str, array: np.ndarray) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise RequestError(
            400, f"{name}: the data leaves the range of {DATATYPES[str(array.dtype)]}; send finite values"
        )


def _flat(name: str, shape: Sequence[int], data: Any) -> list[Any]:
    level = data
    if isinstance(data, list) and data and isinstance(data[0], list):
        level = [data]
        for size in shape:
            if set(map(type, level)) != {list} or set(map(len, level)) != {size}:
                raise RequestError(400, f"{name}: the data is not nested as the shape {list(shape)}; correct either")
            level = list(chain.from_iterable(level))
    if not isinstance(level, list) or len(level) != prod(shape):
        count = len(level) if isinstance(level, list) else "no"
        raise RequestError(400, f"{name}: has {count} values, and the shape {list(shape)} needs {prod(shape)}")
    return level


def to_tensor(name: str, array: np.ndarray) -> dict[str, Any]:
    """Tensor for a response, its data flat.

    >>> to_tensor("y", np.array([[0.5]], np.float32))
    {'name': 'y', 'shape': [1, 1], 'datatype': 'FP32', 'data': [0.5]}
    """
    return {**_header(name, array), "data": array.ravel().tolist()}


def to_binary_tensor(name: str, array: np.ndarray) -> tuple[dict[str, Any], bytes]:
    """Tensor for a response, and its data, which follows the JSON.

    >>> to_binary_tensor("y", np.array([[0.5]], np.float32))[1].hex()
    '0000003f'
    """
    data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return {**_header(name, array), "parameters": {BINARY_SIZE: len(data)}}, data


def _header(name: str, array: np.ndarray) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "datatype": DATATYPES[str(array.dtype)]}


def parameter_of(entry: Any, owner: str, name: str, kind: type[T]) -> T | None:
    """Value of a parameter of a request, an input or an output; None if it is not given.

    Raises:
        RequestError: 400 if it is of another type, or beside parameters that ask for what this server does not do.
    """
    parameters = entry.get("parameters", {})
    if not isinstance(parameters, dict):
        raise RequestError(400, f"{owner}: the parameters are no object; correct them")
    foreign = next((key for key in parameters if key.startswith(_FOREIGN)), None)
    if foreign is not None:
        raise RequestError(400, f"{owner}: the parameter {foreign[:40]!r} is not supported; leave it out")
    value = parameters.get(name)
    if value is not None and type(value) is not kind:
        raise RequestError(400, f"{owner}: {name} is {str(value)[:40]!r}; give {kind.__name__}")
    return value
