"""Graph in half precision, for CUDA: float16 where it is safe, float32 where ranges are wide.

Not by onnxruntime's own converter, which rounds to float16 between float32 operators (docs/experiments.md).
"""

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper, shape_inference

from encoders.onnx.graph import graphs, graphs_inside, rename_values
from export.graph import before_log, drop_unused

# fmt: off
WIDE = {
    "BatchNormalization", "ConcatFromSequence", "CumSum", "Exp", "GroupNormalization", "InstanceNormalization",
    "LayerNormalization", "Log", "LogSoftmax", "LpNormalization", "Pow", "Range", "Reciprocal", "ReduceL1", "ReduceL2",
    "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Resize", "Softmax", "Sqrt",
}
"""Operators that stay in float32: they sum many values, leave the range of float16, or read what a loop made."""
_ELEMENTWISE = {
    "Abs", "Add", "Clip", "Div", "Identity", "Max", "Min", "Mul", "Neg", "Reshape", "Squeeze", "Sub", "Transpose",
    "Unsqueeze",
}
# fmt: on
_LARGEST = float(np.finfo(np.float16).max)


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Graph in float16; its inputs and outputs, and operators with a wide range, stay in float32.

    In float32 stay: normalisations, softmax and sums, with the elementwise operators between them, everything above a
    logarithm (the power spectra of audio), and what is inside of branches and loops. Weights beyond the range
    of float16 are clipped, which keeps the effect of large negative biases that hide tokens.
    """
    converted = onnx.ModelProto()
    converted.CopyFrom(model)
    _Halving(converted).run()
    return converted


class _Halving:
    """Walks the nodes in order and chooses the type of each."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.floats = _float_values(model)
        self.weights = {tensor.name: tensor for tensor in self.graph.initializer if tensor.name in self.floats}
        self.before_log = before_log(self.graph)
        self.types = {value.name: TensorProto.FLOAT for value in self.graph.input if value.name in self.floats}
        self.cast: dict[tuple[str, int], str] = {}
        self.nodes: list[NodeProto] = []

    def run(self) -> None:
        """Rewrites the graph."""
        for node in self.graph.node:
            self._convert(node)
        for output in self.graph.output:
            if self.types.get(output.name) == TensorProto.FLOAT16:
                self._restore(output.name)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        drop_unused(self.graph)

    def _convert(self, node: NodeProto) -> None:
        computed = [name for name in node.input if name in self.types]
        inner = list(graphs_inside(node))
        for graph in inner:
            read = {name for part in graphs(graph) for reader in part.node for name in reader.input}
            rename_values(graph, {name: self._as(name, TensorProto.FLOAT) for name in read & self.types.keys()})
        is_square = node.op_type == "Mul" and node.input[0] == node.input[1]
        wide = bool(inner) or node.op_type in WIDE or node.name in self.before_log or is_square
        if node.op_type in _ELEMENTWISE and computed:
            wide |= all(self.types[name] == TensorProto.FLOAT for name in computed)
        wanted = TensorProto.FLOAT if wide else TensorProto.FLOAT16
        if node.op_type == "Cast":
            self._retarget(node, wanted)
        elif node.op_type in ("Constant", "ConstantOfShape"):
            wanted = TensorProto.FLOAT  # a few numbers; their readers cast them
        else:
            node.input[:] = [self._as(name, wanted) if name in self.floats else name for name in node.input]
        self.nodes.append(node)
        self.types |= {name: wanted for name in node.output if name in self.floats}

    def _retarget(self, node: NodeProto, wanted: int) -> None:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = wanted

    def _as(self, name: str, wanted: int) -> str:
        """Name of the value in the wanted type; adds a cast, or converts a weight, where it has another."""
        if self.types.get(name, TensorProto.FLOAT) == wanted:
            return name
        key = (name, wanted)
        if key not in self.cast:
            self.cast[key] = f"{name}.{'fp16' if wanted == TensorProto.FLOAT16 else 'fp32'}"
            if name in self.weights:
                values = np.clip(numpy_helper.to_array(self.weights[name]), -_LARGEST, _LARGEST).astype(np.float16)
                self.graph.initializer.append(numpy_helper.from_array(values, self.cast[key]))
            else:
                self.nodes.append(_cast(name, self.cast[key], wanted))
        return self.cast[key]

    def _restore(self, name: str) -> None:
        """Casts an output of the graph back to float32."""
        inner = f"{name}.half"
        for node in self.nodes:
            node.input[:] = [inner if value == name else value for value in node.input]
            node.output[:] = [inner if value == name else value for value in node.output]
        self.nodes.append(_cast(inner, name, TensorProto.FLOAT))


def _cast(source: str, target: str, to: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], f"cast.{target}", to=to)


def _float_values(model: onnx.ModelProto) -> set[str]:
    """Names of all values in float32."""
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    values: Iterable[onnx.ValueInfoProto] = (*graph.input, *graph.output, *graph.value_info)
    named = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return named | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
