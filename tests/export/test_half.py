"""Half precision: where it is taken, and that answers stay close."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from support.assertions import assert_close

from export import Bundle
from export.golden import read_golden
from export.half import to_half
from export.session import open_session, run_session


def graph_of(nodes: list[onnx.NodeProto], **weights: np.ndarray) -> onnx.ModelProto:
    """A graph from ``x`` to ``y``, both float32 [2 4]."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4]) for name in "xy"]
    held = [numpy_helper.from_array(np.asarray(values, np.float32), name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], held)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


def node(op_type: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(), [output], f"{op_type} {output}", **attributes)


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """Output of each node -> type of its numbers."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    return {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}


def answers(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return run_session(open_session(model.SerializeToString(), device="cpu"), {"x": x})["y"]


def test_products_become_half_and_the_ends_stay_single():
    x = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    model = graph_of([node("MatMul", "x w", "a"), node("MatMul", "a w", "y")], w=np.eye(4) * 1.5)
    half = to_half(model)
    assert types_of(half)["a"] == TensorProto.FLOAT16
    assert types_of(half)["y"] == TensorProto.FLOAT
    assert [entry.data_type for entry in half.graph.initializer] == [TensorProto.FLOAT16]
    assert_close(answers(half, x), answers(model, x), "float16")
    assert model.graph.initializer[0].data_type == TensorProto.FLOAT  # the given graph is left alone


def test_softmax_and_what_hangs_between_sums_stay_single():
    nodes = [
        node("MatMul", "x w", "a"),
        node("ReduceMean", "a", "mean"),
        node("Sub", "a mean", "centred"),
        node("Mul", "centred centred", "square"),
        node("ReduceMean", "square", "variance"),
        node("Add", "variance eps", "sum"),
        node("Sqrt", "sum", "root"),
        node("Div", "centred root", "b"),
        node("Softmax", "b", "y"),
    ]
    half = to_half(graph_of(nodes, w=np.eye(4), eps=np.float32(1e-5)))
    types = types_of(half)
    assert {name for name in types if types[name] == TensorProto.FLOAT16 and "." not in name} == {"a", "centred", "b"}
    x = np.array([[1, 2, 3, 4], [0.5, 0.25, 0, 1]], np.float32)
    assert_close(answers(half, x), answers(graph_of(nodes, w=np.eye(4), eps=1e-5), x), "float16 values")


def test_what_a_logarithm_reads_stays_single():
    """Power spectra reach far beyond 65504, the largest number in half precision."""
    nodes = [node("MatMul", "x w", "power"), node("Log", "power", "log"), node("MatMul", "log v", "y")]
    model = graph_of(nodes, w=np.full((4, 4), 1e7), v=np.eye(4))
    half = to_half(model)
    assert types_of(half)["power"] == TensorProto.FLOAT
    x = np.ones((2, 4), np.float32)
    assert_close(answers(half, x), answers(model, x), "float16")


def test_biases_that_hide_tokens_are_cut_to_the_range():
    model = graph_of([node("MatMul", "x w", "a"), node("Add", "a bias", "b"), node("Softmax", "b", "y")], w=np.eye(4),
                     bias=[0.0, 0.0, -3e38, -3e38])  # fmt: skip
    given = answers(to_half(model), np.ones((2, 4), np.float32))
    assert_close(given, [[0.5, 0.5, 0.0, 0.0]] * 2, "float16 values")


def test_branches_stay_in_float32_and_read_what_is_not():
    inner = helper.make_graph([node("MatMul", "a v", "b")], "inner", [],
                              [helper.make_tensor_value_info("b", TensorProto.FLOAT, [2, 4])])  # fmt: skip
    nodes = [node("MatMul", "x w", "a"), node("If", "c", "d", then_branch=inner, else_branch=inner),
             node("MatMul", "d w", "y")]  # fmt: skip
    model = graph_of(nodes, w=np.eye(4) / 3, v=np.eye(4) / 7)
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))
    half = to_half(model)
    assert [types_of(half)[name] for name in ("a", "d")] == [TensorProto.FLOAT16, TensorProto.FLOAT]
    x = np.ones((2, 4), np.float32)
    assert_close(answers(half, x), answers(model, x), "float16")


def test_an_exported_graph_answers_alike_in_half_the_size(bundle: Bundle):
    model = onnx.load(bundle.path("model.onnx"))
    half = to_half(model)
    onnx.checker.check_model(half)
    feed, expected, _ = read_golden(bundle)
    for name, values in run_session(open_session(half.SerializeToString(), device="cpu"), feed).items():
        assert 0 < np.abs(values - expected[name]).max() < 1e-2
    assert sum(len(t.raw_data) for t in half.graph.initializer) < 0.6 * sum(
        len(t.raw_data) for t in model.graph.initializer
    )
