"""Inspection of an ONNX file, without the onnx package and without running anything. Never imports torch.

Reads only what a check before loading needs: location and size of weights, and domains of operators.
The format is protobuf: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3.
"""

import mmap
from collections.abc import Iterator
from math import prod
from pathlib import Path

MAX_DEPTH = 16
"""Graphs inside graphs (If, Loop); each is three messages deep."""
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Domains of the operators that onnxruntime brings itself."""
_COMPILED = b"EPContext"
"""Operator of com.microsoft: code compiled for a device, which would run unseen."""
_MAX_AXES = 64
"""Of a tensor; real ones have a handful, and the product of a million takes minutes."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EXTERNAL = 1  # TensorProto.DataLocation
# bytes of a value by TensorProto.DataType: float 1, uint8 2, int8 3, uint16 4, int16 5, int32 6, int64 7, bool 9,
# float16 10, double 11, uint32 12, uint64 13, bfloat16 16; others have at least half a byte
_ITEM_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}

_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_RAW, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 1, 2, 9, 13, 14
_INNER = {  # message -> field -> message inside
    "model": {7: "graph", 8: "opset", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
}


def check_onnx_file(path: Path) -> None:
    """Rejects a model that reads other files, declares a false size, or needs operators of others.

    Raises:
        ValueError: with the reason.
    """
    with path.open("rb") as file:
        try:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))  # read on access
        except ValueError as error:
            raise ValueError(f"{path} is rejected: {error}; export it again") from error
    check_onnx(data, str(path))


def check_onnx(data: memoryview, source: str) -> None:
    """Checks the content of a file as ``check_onnx_file`` does.

    Args:
        source: begins the error message.
    """
    try:
        for kind, message in _messages(data, "model", 0):
            if kind == "tensor":
                _check_tensor(message)
            elif kind == "sparse":
                raise _RejectedError("it has sparse weights, which no export writes")
            elif kind in ("node", "opset"):
                _check_domain(message, 7 if kind == "node" else 1)
            if kind == "node" and any(field == 4 and value == _COMPILED for field, _, value in _fields(message)):
                raise _RejectedError("it holds code compiled for one device (EPContext), which no export writes")
    except (_RejectedError, IndexError, ValueError) as error:
        raise ValueError(f"{source} is rejected: {error}; export it again") from error


class _RejectedError(Exception):
    """Reason why a model is not loaded."""


def _messages(data: memoryview, kind: str, depth: int) -> Iterator[tuple[str, memoryview]]:
    """Every message that may hold one of interest, the outer before the inner."""
    if depth > 3 * MAX_DEPTH:
        raise _RejectedError(f"its graphs are nested more than {MAX_DEPTH} deep")
    yield kind, data
    inner = _INNER.get(kind, {})
    if inner:
        for field, wire, value in _fields(data):
            if field in inner and wire == _BYTES:
                assert isinstance(value, memoryview)
                yield from _messages(value, inner[field], depth + 1)


def _fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Number, wire type and value of each field."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield key >> 3, wire, value
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(wire)
        if wire == _BYTES:
            size, at = _varint(data, at)
        if size is None or at + size > len(data):
            raise _RejectedError("it is no ONNX file, or ends too early")
        yield key >> 3, wire, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise _RejectedError("it is no ONNX file: a number has more than 64 bits")


def _check_tensor(data: memoryview) -> None:
    dims: list[int] = []
    kind, has_raw = 0, False
    for field, _, value in _fields(data):
        if field == _TENSOR_EXTERNAL or (field == _TENSOR_LOCATION and value == _EXTERNAL):
            raise _RejectedError("its weights lie in other files (external data), and one file has to hold all")
        if field == _TENSOR_DIMS:
            dims += [value] if isinstance(value, int) else _packed(value)
        if field == _TENSOR_TYPE and isinstance(value, int):
            kind = value
        has_raw |= field == _TENSOR_RAW
    if len(dims) > _MAX_AXES:
        raise _RejectedError(f"a tensor declares {len(dims)} axes")
    least = prod(dims) * (_ITEM_BYTES.get(kind, 0.5) if has_raw else 0.5)  # two values of four bits share a byte
    if least > len(data) + 1:
        raise _RejectedError(f"a tensor declares the shape {dims[:8]}, and has {len(data)} bytes")


def _packed(data: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        values.append(value)
    return values


def _check_domain(data: memoryview, field_of_domain: int) -> None:
    for field, _, value in _fields(data):
        if field == field_of_domain and isinstance(value, memoryview):
            domain = bytes(value).decode("utf-8", "replace")
            if domain not in _DOMAINS:
                raise _RejectedError(f"it needs operators of {domain!r}, and only those of onnxruntime are run")
