"""Conversion of tensors in JSON of the Open Inference Protocol to arrays and back.

https://github.com/open-inference/open-inference-protocol, version 2.
"""

from collections.abc import Sequence
from itertools import chain
from math import prod
from typing import Any

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


def to_array(name: str, shape: Any, data: Any, dtype: str, max_values: int) -> np.ndarray:
    """Array of a tensor, whose data is flat, row by row, or nested as its shape.

    >>> to_array("x", [2, 1], [3, 4], "int64", 10).tolist()
    [[3], [4]]

    Raises:
        RequestError: 400 if shape and data do not fit, or a value is not of the type; 413 if it is too large.
    """
    if not isinstance(shape, list) or not 1 <= len(shape) <= MAX_AXES or not set(map(type, shape)) <= {int}:
        raise RequestError(400, f"{name}: the shape is not a list of 1 to {MAX_AXES} whole numbers; correct it")
    if min(shape) < 1:
        raise RequestError(400, f"{name}: the shape is {shape}; give sizes of at least 1")
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
    if kind == "f" and not np.isfinite(array).all():
        raise RequestError(400, f"{name}: the data leaves the range of {DATATYPES[dtype]}; send finite values")
    return array


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
    return {
        "name": name,
        "shape": list(array.shape),
        "datatype": DATATYPES[str(array.dtype)],
        "data": array.ravel().tolist(),
    }
