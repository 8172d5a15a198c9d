"""encoder.json and files that cannot be an encoder: each refused, with what to do."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from support.onnx_files import FLOAT, INT64, chain, describe, image_file, text_file, write

from encoders import create_encoder
from multimodal.config import ConfigError, Input


def edited(folder, change):
    """The chain of two files, whose description is changed."""
    content = json.loads((chain(folder) / "encoder.json").read_text())
    change(content)
    return describe(folder, content)


def in_graph(index, **changes):
    return lambda content: content["graphs"][index].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(windows=3), "unknown key 'windows'"),
        (lambda c: c.update(silence="long"), "silence is 'long'; give seconds from 0 to 10"),
        (lambda c: c.update(silence=-1), "silence is -1; give seconds from 0 to 10"),
        (lambda c: c.pop("preprocess"), 'needs "preprocess": {"kind"'),
        (lambda c: c.pop("graphs"), r'needs "graphs": \[{"file"'),
        (lambda c: c["graphs"].clear(), r'needs "graphs": \[{"file"'),
        (lambda c: c["preprocess"].update(rate=8000), "unknown key 'rate'"),
        (lambda c: c["preprocess"].update(min_seconds=0.01), r"cannot run it on two blank values \(waveform \[2, 80\]"),
        (lambda c: c["preprocess"].update(min_seconds=0.06), r"at least one for the shortest value"),
        (in_graph(0, file="../frames.onnx"), "give the name of a file beside encoder.json"),
        (in_graph(0, file=7), 'needs "file"'),
        (in_graph(0, mead=1.0), r"graphs\[0\]: unknown key 'mead'; did you mean 'mean'"),
        (in_graph(0, std=0), r"std is 0; give a number"),
        (in_graph(0, mean="loud"), r"mean is 'loud'; give a number"),
        (in_graph(0, mean=[True]), r"mean is \[True\]; give a number"),
        (in_graph(0, inputs={"sound": "waveform"}), "inputs has 'sound': 'waveform'; the graph's are waveform"),
        (in_graph(0, inputs={"waveform": "pixels"}), "from waveform, waveform_mask, zeros"),
        (in_graph(0, inputs=["waveform"]), r"inputs is \['waveform'\]; give {GRAPH INPUT: TENSOR}"),
        (in_graph(0, output="outpot"), "has no output 'outpot'; did you mean 'output'"),
        (in_graph(0, window={"size": 400, "step": 200}), "two files have a window"),
        (in_graph(1, window={"size": 3}), r'give {"size": ..., "step": ...}'),
        (in_graph(1, window={"size": 3, "step": 0}), "step is 0; give a whole number"),
        (lambda c: c["graphs"].append({"file": "vectors.onnx"}), "its input 'window' has the axes"),
    ],
)
def test_a_description_that_cannot_be_followed_says_where(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        create_encoder(f"onnx/{edited(tmp_path, change)}")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"graphs": {}}'])
def test_a_damaged_description_is_named(tmp_path, content):
    (tmp_path / "encoder.json").write_text(content)
    with pytest.raises(ValueError, match=r"encoder\.json: (is no JSON|needs \"graphs\")"):
        create_encoder(f"onnx/{tmp_path}")


def identity(path, *inputs):
    """A file with these inputs, the first of which it gives back."""
    node = helper.make_node("Identity", [inputs[0][0]], ["y"])
    return write(path, [node], inputs, [("y", *inputs[0][1:])], {})


@pytest.mark.parametrize(
    "inputs",
    [
        [("x", FLOAT, ("b", 4, 16, 16))],
        [("x", FLOAT, ("b", 3, 16))],
        [("x", FLOAT, ("b", "s")), ("y2", FLOAT, ("b", "s"))],
        [("pixels", FLOAT, ("b", 3, 16, 16)), ("ids", INT64, ("b", "l"))],
        [("ids", INT64, ("b",))],
        [("x", FLOAT, ())],
    ],
)
def test_inputs_that_tell_nothing_ask_for_a_description(tmp_path, inputs):
    with pytest.raises(ValueError, match=r"are no single image, waveform or token ids; write encoder\.json beside it"):
        create_encoder(f"onnx/{identity(tmp_path / 'm.onnx', *inputs)}")


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def foreign(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "evil.com"
    model.opset_import.add(domain="evil.com", version=1)


def huge(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 10**9


def compiled(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "EPContext"


def shapeless(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.ClearField("shape")
    places = helper.make_node("NonZero", ["pixels"], ["places"])  # nobody knows how many
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1]), "all"))
    flat = helper.make_node("Reshape", ["places", "all"], ["flat"])
    shaped = helper.make_node("ConstantOfShape", ["flat"], [model.graph.output[0].name])
    del model.graph.node[:]
    model.graph.node.extend([places, flat, shaped])


def unknown(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Convolve"


def two_outputs(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = model.graph.node[0].output[0] = "first"
    model.graph.node.append(helper.make_node("Identity", ["first"], ["second"]))
    model.graph.output.append(helper.make_tensor_value_info("second", FLOAT, ["b", 5, 2, 2]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (external, "is rejected: its weights lie in other files"),
        (foreign, "is rejected: it needs operators of 'evil.com'"),
        (huge, "is rejected: a tensor declares the shape"),
        (compiled, "is rejected: it holds code compiled for one device"),
        (shapeless, "does not declare its output's axes, and they cannot be inferred"),
        (unknown, "Convolve"),
        (two_outputs, r"say it as 'output' in encoder\.json \(there are first, second\)"),
    ],
)
def test_a_file_is_checked_before_it_is_opened(tmp_path, change, message):
    path = image_file(tmp_path / "m.onnx")
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=message):
        create_encoder(f"onnx/{path}")


@pytest.mark.parametrize("content", [b"", b"\x80\x04cos\nsystem\n.", b"\xff" * 40, b"PK\3\4", b"not a model"])
def test_what_is_no_model_is_refused(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=r"m\.onnx"):
        create_encoder(f"onnx/{tmp_path / 'm.onnx'}")


def test_a_hostile_graph_in_a_run_is_checked_too(tmp_path):
    encoder = create_encoder(f"onnx/{image_file(tmp_path / 'm.onnx')}")
    model = onnx.load_from_string(encoder.content)
    foreign(model)
    other = create_encoder(encoder.name, weights=None, built={**encoder.architecture()["built"], "bytes": 9})
    other.graph = torch.frombuffer(bytearray(model.SerializeToString()), dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"is rejected: it needs operators of 'evil\.com'"):
        other({"pixels": encoder.graph.new_zeros(1, 3, 16, 16)})


def test_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no ONNX encoder '.*nothing'; give onnx/ and the path"):
        create_encoder(f"onnx/{tmp_path / 'nothing'}")
    with pytest.raises(FileNotFoundError, match="there is no ONNX encoder"):
        create_encoder(f"onnx/{tmp_path}")
    (chain(tmp_path) / "vectors.onnx").unlink()
    with pytest.raises(FileNotFoundError, match=r"vectors\.onnx is not there, and encoder\.json names it"):
        create_encoder(f"onnx/{tmp_path}")
    with pytest.raises(ValueError, match=r"does not describe other\.onnx; put the files into a folder of their own"):
        create_encoder(f"onnx/{image_file(tmp_path / 'other.onnx')}")
    text_file(tmp_path / "text" / "m.onnx")
    (tmp_path / "text" / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json is not there; the encoder reads texts"):
        create_encoder(f"onnx/{tmp_path / 'text' / 'm.onnx'}")


def test_images_that_are_not_square_are_refused(tmp_path):
    path = identity(tmp_path / "m.onnx", ("x", FLOAT, ("b", 3, 16, 24)))
    with pytest.raises(ValueError, match="reads images of 16 x 24, and images are square here"):
        create_encoder(f"onnx/{path}")


@pytest.mark.parametrize("weights", [None, "weights.safetensors"])
def test_there_are_no_other_weights_than_the_file_s(tmp_path, weights):
    with pytest.raises(ValueError, match="has the weights of its files and no others"):
        create_encoder(f"onnx/{image_file(tmp_path / 'm.onnx')}", weights=weights)


def test_what_cannot_train_is_frozen_in_a_job():
    assert Input(encoder="onnx/m.onnx").frozen
    assert not Input(encoder="compact/text").frozen
    with pytest.raises(ConfigError, match=r"frozen is false, but onnx/m\.onnx has no gradients to train it by"):
        Input(encoder="onnx/m.onnx", frozen=False)
