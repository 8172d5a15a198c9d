"""8-bit graphs: what of them is 8-bit, and that they answer."""

import logging
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.assertions import assert_close

from export import Bundle
from export.golden import read_golden
from export.quantize import RECIPES, applicable_recipes, to_int8
from export.session import open_session, run_session

RNG = np.random.default_rng(0)


def picture_and_words() -> onnx.ModelProto:
    """Two convolutions over ``pixels``, the first on its values; two products; before logarithms one of each."""
    weights: dict[str, Any] = {
        "stem": RNG.normal(size=(8, 3, 3, 3)) / 5,
        "second": RNG.normal(size=(8, 8, 3, 3)) / 8,
        "mel": np.abs(RNG.normal(size=(8, 3, 3, 3))),
        "bank": np.abs(RNG.normal(size=(64, 64))),
        "hidden": RNG.normal(size=(64, 64)) / 8,
        "head": RNG.normal(size=(64, 64)) / 8,
        "one": np.ones(1),
    }
    nodes = [
        ("Conv", "pixels stem", "a"),
        ("Relu", "a", "b"),
        ("Conv", "b second", "c"),
        ("Conv", "pixels mel", "m"),
        ("Abs", "m", "n"),
        ("Add", "n one", "o"),
        ("Log", "o", "log"),
        ("ReduceMean", "log", "loudness"),
        ("Abs", "words", "power"),
        ("MatMul", "power bank", "p"),
        ("Add", "p one", "q"),
        ("Log", "q", "bands"),
        ("ReduceMean", "c", "brightness"),
        ("MatMul", "words hidden", "h"),
        ("Add", "h brightness", "i"),
        ("Add", "i loudness", "j"),
        ("Add", "j bands", "k"),
        ("MatMul", "k head", "y"),
    ]
    made = []
    for op_type, inputs, output in nodes:
        attributes = {"keepdims": 0} if op_type == "ReduceMean" else {}
        made.append(helper.make_node(op_type, inputs.split(), [output], output, **attributes))
    ends = [("pixels", ["b", 3, 8, 8]), ("words", ["b", 64]), ("y", ["b", 64])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends]
    held = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    graph = helper.make_graph(made, "g", values[:2], values[2:], held)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


@pytest.fixture(scope="module")
def feed() -> dict[str, np.ndarray]:
    return {
        "pixels": RNG.random((4, 3, 8, 8), dtype=np.float32),
        "words": RNG.normal(size=(4, 64)).astype(np.float32),
    }


def eight_bit_weights(content: bytes) -> set[str]:
    model = onnx.load_from_string(content)
    return {t.name.removesuffix("_quantized") for t in model.graph.initializer if t.name.endswith("_quantized")}


def test_recipes_go_from_everything_to_products_alone() -> None:
    assert applicable_recipes(picture_and_words()) == list(RECIPES)


@pytest.mark.parametrize(
    ("recipe", "weights"),
    [(0, {"stem", "second", "hidden"}), (1, {"second", "hidden"}), (2, {"second"}), (3, {"hidden"})],
)
def test_mel_and_the_last_product_stay_as_they_are(
    recipe: int, weights: set[str], feed: dict[str, np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    model = picture_and_words()
    content = to_int8(model, RECIPES[recipe], [feed])
    assert eight_bit_weights(content) == weights
    expected = run_session(open_session(model.SerializeToString(), device="cpu"), feed)["y"]
    actual = run_session(open_session(content, device="cpu"), feed)["y"]
    assert 0 < np.abs(actual - expected).max() < 0.05 * np.abs(expected).max()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not onnx.load_from_string(content).metadata_props


def test_each_channel_of_a_convolution_has_its_own_scale(feed: dict[str, np.ndarray]) -> None:
    given = picture_and_words()
    model = onnx.load_from_string(to_int8(given, RECIPES[2], [feed]))
    (scale,) = [numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "second_scale"]
    weights = {t.name: numpy_helper.to_array(t) for t in given.graph.initializer}
    assert scale.shape == (8,)
    assert_close(scale * 127, np.abs(weights["second"]).max(axis=(1, 2, 3)), "5 %")


def test_a_graph_of_small_matrices_has_no_recipe() -> None:
    model = picture_and_words()
    keep = [node for node in model.graph.node if node.op_type not in ("Conv", "MatMul")]
    del model.graph.node[:]
    model.graph.node.extend(keep)
    assert applicable_recipes(model) == []


def test_an_exported_graph_still_takes_any_batch(bundle: Bundle) -> None:
    model = onnx.load(bundle.path("model.onnx"))
    feed, expected, _ = read_golden(bundle)
    (recipe, *_) = applicable_recipes(model)
    session = open_session(to_int8(model, recipe, [feed]), device="cpu")
    assert run_session(session, feed)["color"].shape == expected["color"].shape
    one = {name: array[:1] for name, array in feed.items()}
    assert run_session(session, one)["color"].shape == (1, 3)
