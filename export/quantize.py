"""Graph with 8-bit weights, for CPUs: static for convolutions, dynamic for matrix products."""

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from export.graph import before_log, strip, upward
from multimodal.runtime.files import write_atomically

_PRODUCTS = ("MatMul", "Gemm")
_BETWEEN = ("Relu", "Clip", "Add", "MaxPool")  # kept in 8 bits where they stand between convolutions
_LEAST_SIZE = 64  # rows and columns of a matrix; of smaller ones the conversion costs more than the product


@dataclass(frozen=True)
class Recipe:
    """Operators that become 8-bit. Mel spectra and the last product before each output never do."""

    name: str
    convolutions: bool = True
    first_convolutions: bool = True
    """Convolutions of an input's own values, which are the most sensitive ones."""
    products: bool = True


RECIPES = (
    Recipe("convolutions and products"),
    Recipe("all but the first convolutions", first_convolutions=False),
    Recipe("all but the first convolutions, no products", first_convolutions=False, products=False),
    Recipe("products alone", convolutions=False),
)
"""From the fastest to the most careful."""


def applicable_recipes(model: onnx.ModelProto) -> list[Recipe]:
    """Recipes that change the graph, each in another way."""
    found: dict[tuple[tuple[str, ...], tuple[str, ...]], Recipe] = {}
    for recipe in RECIPES:
        chosen = (tuple(_convolutions(model.graph, recipe)), tuple(_products(model.graph, recipe)))
        if any(chosen):
            found.setdefault(chosen, recipe)
    return list(found.values())


def to_int8(model: onnx.ModelProto, recipe: Recipe, calibration: Iterable[Mapping[str, np.ndarray]]) -> bytes:
    """Graph with 8-bit convolutions (static, per channel) and matrix products (dynamic, per channel).

    Activations are unsigned and weights signed: on a CPU without VNNI or the like such products may saturate.

    Args:
        calibration: feeds of ordinary records, batch by batch: they give the ranges of the activations.
    """
    with tempfile.TemporaryDirectory(prefix="multimodal.int8.") as folder, _quiet():
        file = Path(folder) / "model.onnx"
        write_atomically(file, model.SerializeToString())
        convolutions = _convolutions(model.graph, recipe)
        if convolutions:
            _static(file, convolutions, calibration)
        products = _products(model.graph, recipe)
        if products:
            quantize_dynamic(
                file, file, list(_PRODUCTS), per_channel=True, weight_type=QuantType.QInt8, nodes_to_quantize=products
            )
        made = onnx.load(file)
    strip(made)
    return made.SerializeToString(deterministic=True)


def _static(file: Path, nodes: list[str], calibration: Iterable[Mapping[str, np.ndarray]]) -> None:
    quantize_static(
        file,
        file,
        _Feeds(calibration),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv", *_BETWEEN],
        nodes_to_quantize=nodes,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )


class _Feeds(CalibrationDataReader):
    def __init__(self, feeds: Iterable[Mapping[str, np.ndarray]]) -> None:
        self._feeds = map(dict, feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Next feed; None after the last."""
        return next(self._feeds, None)


def _convolutions(graph: onnx.GraphProto, recipe: Recipe) -> list[str]:
    """Names of the convolutions that become 8-bit, and of the operators between them."""
    if not recipe.convolutions:
        return []
    weights = {tensor.name for tensor in graph.initializer}
    mel = before_log(graph)
    inside: list[str] = []
    values: set[str] = set()  # of those inside
    reached: set[str] = set()  # by a convolution's output
    for node in graph.node:
        computed = [name for name in node.input if name and name not in weights]
        after = not reached.isdisjoint(computed)
        if is_convolution := node.op_type == "Conv" and node.name not in mel:
            taken = after or recipe.first_convolutions
        else:
            taken = node.op_type in _BETWEEN and bool(computed) and values.issuperset(computed)
        if taken:
            inside.append(node.name)
            values.update(node.output)
        if after or is_convolution:
            reached.update(node.output)
    return inside


def _products(graph: onnx.GraphProto, recipe: Recipe) -> list[str]:
    """Names of the products with a large matrix of weights, except the last ones before the outputs."""
    if not recipe.products:
        return []
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    outputs = {output.name for output in graph.output}
    ends = upward(graph, lambda node: not outputs.isdisjoint(node.output), stop=_PRODUCTS)
    kept = {*before_log(graph), *(name for name, node in ends.items() if node.op_type in _PRODUCTS)}
    return [
        node.name
        for node in graph.node
        if node.op_type in _PRODUCTS
        and node.name not in kept
        and len(shapes.get(node.input[1], ())) == 2
        and min(shapes[node.input[1]]) >= _LEAST_SIZE
    ]


@contextmanager
def _quiet() -> Iterator[None]:
    """Drops two warnings of the root logger that do not apply: to infer shapes first, and that the graph is quantized
    already, which its convolutions are on purpose."""

    def advice(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return "pre-processing before quantization" not in message and "is already quantized" not in message

    root = logging.getLogger()
    root.addFilter(advice)
    try:
        yield
    finally:
        root.removeFilter(advice)
