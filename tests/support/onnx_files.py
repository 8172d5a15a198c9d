"""Tiny ONNX files of every kind that an encoder may be, and what they compute, in NumPy."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper
from support.tiny_models import WORDS, tiny_tokenizer

FLOAT, INT64, UINT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8
Value = tuple[str, int, Sequence[int | str]]
"""Name, type and axes."""


def write(
    path: Path,
    nodes: Sequence[NodeProto],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    weights: dict[str, np.ndarray],
    *,
    opset: int = 17,
) -> Path:
    """Writes a file."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def describe(folder: Path, content: dict[str, Any]) -> Path:
    """Writes ``encoder.json``; returns its folder."""
    (folder / "encoder.json").write_text(json.dumps(content))
    return folder


def numbers(*shape: int) -> np.ndarray:
    """Weights, the same every time."""
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


KERNEL = numbers(5, 3, 8, 8)
"""Of ``image_file``: five channels, of squares of 8 pixels."""


def image_file(path: Path, *, batch: int | str = "b", last: bool = False, opset: int = 17) -> Path:
    """A convolution over pixels 16 x 16: a map of 2 x 2 with 5 channels.

    Args:
        last: channels come last, as in files of TensorFlow.
    """
    nodes = [helper.make_node("Conv", ["x", "kernel"], ["y"], strides=[8, 8])]
    if last:
        before = helper.make_node("Transpose", ["pixels"], ["x"], perm=[0, 3, 1, 2])
        nodes = [before, *nodes, helper.make_node("Transpose", ["y"], ["features"], perm=[0, 2, 3, 1])]
        given, made = (batch, 16, 16, 3), (batch, 2, 2, 5)
    else:
        nodes[0].input[0], nodes[0].output[0] = "pixels", "features"
        given, made = (batch, 3, 16, 16), (batch, 5, 2, 2)
    return write(path, nodes, [("pixels", FLOAT, given)], [("features", FLOAT, made)], {"kernel": KERNEL}, opset=opset)


def image_tokens(pixels: np.ndarray) -> np.ndarray:
    """Tokens [b 4 5] that ``image_file`` gives for normalised pixels [b 3 16 16]."""
    squares = pixels.reshape(-1, 3, 2, 8, 2, 8).transpose(0, 2, 4, 1, 3, 5)  # [b 2 2 3 8 8]
    return np.einsum("bhwcyx,dcyx->bhwd", squares, KERNEL).reshape(-1, 4, 5)


EMBEDDINGS = numbers(len(WORDS), 6)


def text_file(path: Path, *, mask: bool = True, batch: int | str = "b") -> Path:
    """The vector of each word less the mean over the text, as attention would mix; with a tokenizer beside it."""
    axes = (batch, "l")
    if mask:
        nodes = [
            helper.make_node("Gather", ["embeddings", "input_ids"], ["vectors"]),
            helper.make_node("Cast", ["attention_mask"], ["real"], to=FLOAT),
            helper.make_node("Unsqueeze", ["real", "two"], ["column"]),
            helper.make_node("Mul", ["vectors", "column"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "one"], ["sum"], keepdims=1),
            helper.make_node("ReduceSum", ["column", "one"], ["count"], keepdims=1),
            helper.make_node("Div", ["sum", "count"], ["mean"]),
            helper.make_node("Sub", ["vectors", "mean"], ["last_hidden_state"]),
        ]
    else:
        nodes = [
            helper.make_node("Gather", ["embeddings", "input_ids"], ["vectors"]),
            helper.make_node("ReduceMean", ["vectors"], ["mean"], axes=[1], keepdims=1),
            helper.make_node("Sub", ["vectors", "mean"], ["last_hidden_state"]),
        ]
    inputs = [("input_ids", INT64, axes), ("attention_mask", INT64, axes)][: 1 + mask]
    if mask:  # as exports of BERT have it
        inputs.append(("token_type_ids", INT64, axes))
        nodes.insert(0, helper.make_node("Add", ["input_ids", "token_type_ids"], ["ids"]))
        nodes[1].input[1] = "ids"
    weights = {"embeddings": EMBEDDINGS, "one": np.array([1]), "two": np.array([2])}
    weights = weights if mask else {"embeddings": EMBEDDINGS}
    write(path, nodes, inputs, [("last_hidden_state", FLOAT, (batch, "l", 6))], weights)
    (path.parent / "tokenizer.json").write_text(tiny_tokenizer().to_str())
    return path


def text_tokens(ids: np.ndarray) -> np.ndarray:
    """Tokens [l 6] that ``text_file`` gives for the ids of one text."""
    vectors = EMBEDDINGS[ids]
    return vectors - vectors.mean(0)


BANDS = numbers(4, 1, 400)
"""Kernels of ``chain``: frames of 400 samples, 200 apart."""
MIXED = numbers(3 * 4, 7)


def chain(folder: Path) -> Path:
    """Two files and their description: frames of a waveform, less the loudest of the whole batch; then, of each three
    frames, two apart, one vector."""
    frames = [
        helper.make_node("Unsqueeze", ["waveform", "one"], ["channel"]),
        helper.make_node("Conv", ["channel", "bands"], ["spectrum"], strides=[200]),
        helper.make_node("Transpose", ["spectrum"], ["frames"], perm=[0, 2, 1]),
        helper.make_node("ReduceMax", ["frames"], ["loudest"], keepdims=0),
        helper.make_node("Sub", ["frames", "loudest"], ["relative"]),
        helper.make_node("Unsqueeze", ["relative", "one"], ["output"]),
    ]
    weights = {"one": np.array([1]), "bands": BANDS}
    made = ("output", FLOAT, ("b", 1, "t", 4))
    write(folder / "frames.onnx", frames, [("waveform", FLOAT, ("b", "s"))], [made], weights, opset=13)
    vectors = [
        helper.make_node("Reshape", ["window", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "mixed"], ["products"]),
        helper.make_node("Tanh", ["products"], ["vector"]),
        helper.make_node("Unsqueeze", ["vector", "one"], ["embedding"]),
    ]
    weights = {"flat": np.array([-1, 12]), "mixed": MIXED, "one": np.array([1])}
    given = ("window", FLOAT, ("n", 3, 4, 1))
    write(folder / "vectors.onnx", vectors, [given], [("embedding", FLOAT, ("n", 1, 7))], weights, opset=18)
    return describe(
        folder,
        {
            "preprocess": {"kind": "audio", "sample_rate": 8000, "min_seconds": 0.1, "max_seconds": 2.0},
            "graphs": [
                {"file": "frames.onnx", "std": 0.5},
                {"file": "vectors.onnx", "mean": -1.0, "std": 10.0, "window": {"size": 3, "step": 2}},
            ],
            "licence": "MIT",
        },
    )


def chain_tokens(waveform: np.ndarray) -> np.ndarray:
    """Tokens [l 7] that ``chain`` gives for one waveform."""
    starts = range(0, len(waveform) - 399, 200)
    frames = np.array([BANDS[:, 0] @ waveform[start : start + 400] / 0.5 for start in starts])
    scaled = (frames - frames.max() + 1.0) / 10.0
    windows = [scaled[start : start + 3] for start in range(0, len(scaled) - 2, 2)]
    return np.tanh(np.array(windows).reshape(len(windows), 12) @ MIXED)
