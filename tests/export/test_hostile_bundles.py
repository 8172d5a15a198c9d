"""Bundles whose hashes are right and whose content is meant to harm: refused before anything of them runs."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.bundle_faults import rewrite

from encoders.onnx.file import check_onnx_file
from encoders.preprocessing.registry import PREPROCESSORS, register_preprocessor
from export import BundleError, Predictor, verify_bundle
from export.bundle_folder import read_bundle
from export.triton import write_triton_repository


def refused(folder: Path, message: str) -> None:
    """By loading and by verification, in the same words."""
    with pytest.raises(BundleError, match=message):
        Predictor.load(folder, device="cpu")
    assert any(message.replace("\\", "") in problem for problem in verify_bundle(folder))


def changed_model(folder: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(folder / "model.onnx")
    change(model)
    content = model.SerializeToString()
    rewrite(folder, "model.onnx", content)
    parity = json.loads((folder / "parity.json").read_text())
    parity["models"]["model.onnx"]["sha256"] = hashlib.sha256(content).hexdigest()
    rewrite(folder, "parity.json", parity)


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../etc/passwd"


def oversized(model: onnx.ModelProto) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.raw_data)
    tensor.dims[:] = [1_000_000, 1_000_000]


def unknown(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "evil.example"


def no_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "DeleteFiles"


def many_axes(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [2**62] * 300_000


def compiled(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.microsoft"
    model.graph.node[0].op_type = "EPContext"


def sparse(model: onnx.ModelProto) -> None:
    values = helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("indices", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [10**9]))


def hidden(model: onnx.ModelProto) -> None:
    """External data inside a subgraph."""
    tensor = helper.make_tensor("inner", TensorProto.FLOAT, [1], [1.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    graph = helper.make_graph([node], "then", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [1])])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=graph, else_branch=graph))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (external, "its weights lie in other files"),
        (hidden, "its weights lie in other files"),
        (oversized, "a tensor declares the shape"),
        (unknown, "it needs operators of 'evil.example'"),
        (many_axes, "a tensor declares 300000 axes"),
        (compiled, r"it holds code compiled for one device \(EPContext\)"),
        (sparse, "it has sparse weights"),
        (no_operator, "onnxruntime rejects it"),
    ],
)
def test_a_model_that_wants_more_than_a_model_may_is_refused(copied: Path, change: Any, message: str) -> None:
    changed_model(copied, change)
    refused(copied, message)


def test_a_model_that_wants_more_gets_no_triton_repository(copied: Path, tmp_path: Path) -> None:
    changed_model(copied, external)
    with pytest.raises(BundleError, match="its weights lie in other files"):
        write_triton_repository(copied, tmp_path / "models")


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04cos\nsystem\n.", b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f", b"PK\3\4"]
)
def test_what_is_no_model_is_refused(copied: Path, content: bytes) -> None:
    rewrite(copied, "model.onnx", content)
    with pytest.raises(BundleError, match=r"model\.onnx(: onnxruntime rejects it| is rejected)"):
        Predictor.load(copied, device="cpu")


def test_a_truncated_model_is_refused(copied: Path) -> None:
    content = (copied / "model.onnx").read_bytes()
    rewrite(copied, "model.onnx", content[: len(content) // 2])
    with pytest.raises(BundleError, match=r"is no ONNX file, or ends too early"):
        Predictor.load(copied, device="cpu")


def test_graphs_without_end_are_refused(tmp_path: Path) -> None:
    def field(number: int, content: bytes) -> bytes:
        length, size = len(content), b""
        while length > 127:
            size, length = size + bytes([length & 127 | 128]), length >> 7
        return bytes([number << 3 | 2]) + size + bytes([length]) + content

    content = b""
    for _ in range(40):
        content = field(1, field(5, field(6, content)))  # graph: node: attribute: graph
    (tmp_path / "model.onnx").write_bytes(field(7, content))
    with pytest.raises(ValueError, match="its graphs are nested more than 16 deep"):
        check_onnx_file(tmp_path / "model.onnx")


PLUG_IN = {"kind": "os:system", "distribution": "evil"}
PICKLE = np.array([{"a": 1}], dtype=object)


def test_a_pickle_in_the_place_of_an_array_is_not_opened(copied: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "pickle.npy", PICKLE, allow_pickle=True)
    rewrite(copied, "golden/outputs/price.npy", (tmp_path / "pickle.npy").read_bytes())
    (problem,) = verify_bundle(copied)
    assert "price.npy is no array that can be read (object [1] is not what the file holds)" in problem


def test_an_array_that_says_it_is_huge_is_not_made(copied: Path) -> None:
    content = (copied / "golden" / "outputs" / "price.npy").read_bytes()
    rewrite(
        copied, "golden/outputs/price.npy", content.replace(b"(4, 1)", b"(4000000000000, 1)").replace(b" " * 12, b"", 1)
    )
    (problem,) = verify_bundle(copied)
    assert "price.npy is no array that can be read" in problem


def npy(header: str, data: bytes = b"") -> bytes:
    """A file of an array with that header."""
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode() + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        npy("(" * 5000),
        npy("-" * 9000 + "1"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': ((1,\n"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (), }\n", bytes(4)),
        npy("{'descr': '<U4', 'fortran_order': False, 'shape': (4, 1), }\n", bytes(64)),
        npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4, 1), }\n", bytes(16)),
    ],
)
@pytest.mark.parametrize("name", ["golden/outputs/price.npy", "golden/inputs/text.present.npy"])
def test_what_is_no_array_of_numbers_is_a_problem(copied: Path, name: str, content: bytes) -> None:
    rewrite(copied, name, content)
    (problem,) = verify_bundle(copied)
    assert "is no array that can be read" in problem


def test_golden_outputs_of_another_shape_are_a_difference(copied: Path) -> None:
    rewrite(copied, "golden/outputs/color.npy", np.zeros(4, np.float32))
    (problem,) = verify_bundle(copied)
    assert "color of the golden records differs by inf" in problem


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("inputs/photo/preprocess.json", PLUG_IN, "pip install|allow_plugins"),
        ("inputs/photo/preprocess.json", {"kind": "image", "size": 10**9}, "and the bundle declares"),
        ("inputs/photo/preprocess.json", {"kind": "image", "size": "x"}, "cannot be used"),
        ("inputs/photo/preprocess.json", [], "cannot be used"),
        ("inputs/text/tokenizer.json", b"\x80\x04cos\nsystem\n.", "cannot be used"),
        ("tasks/color.json", {"decoding": {"kind": "os.system"}}, r"tasks/color\.json cannot be used"),
        ("tasks/color.json", {"decoding": {"kind": "softmax", "surprise": 1}}, r"tasks/color\.json cannot be used"),
        ("tasks/color.json", {"decoding": {"kind": "softmax", "labels": ["red"]}}, r"tasks/color\.json cannot be used"),
        ("tasks/color.json", {"decoding": {"kind": "softmax", "labels": 3}}, r"tasks/color\.json cannot be used"),
        ("tasks/color.json", [], r"tasks/color\.json cannot be used"),
        ("inputs/photo/preprocess.json", b"[" * 100_000, "cannot be used"),
        ("tasks/color.json", b"\x80\x04cos\nsystem\n.", r"tasks/color\.json is not JSON"),
    ],
)
def test_a_description_that_cannot_be_used_is_refused(copied: Path, name: str, content: Any, message: str) -> None:
    rewrite(copied, name, content)
    with pytest.raises(BundleError, match=message):
        Predictor.load(copied, device="cpu")
    assert any(re.search(message, problem) for problem in verify_bundle(copied))


@pytest.mark.parametrize(
    "error", [KeyError, IndexError, AttributeError, TypeError, ValueError, RecursionError, OSError]
)
def test_a_plug_in_that_fails_is_refused_as_the_description_is(
    copied: Path, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        @classmethod
        def from_config(cls, config: Any, assets: Any) -> None:
            raise error("size")

    monkeypatch.setattr(PREPROCESSORS, "registered", {})
    register_preprocessor("tests/broken")(Broken)
    rewrite(copied, "inputs/photo/preprocess.json", {"kind": "tests/broken", "distribution": None})
    with pytest.raises(BundleError, match=r"photo cannot be used \('?size'?\); export it again"):
        Predictor.load(copied, allow_plugins=["tests/broken"])


@pytest.mark.parametrize("content", [[], None, "x", {"created": 3}, {"created": ["2026"]}, {"created": None}])
def test_a_time_of_export_that_cannot_be_used_is_none(copied: Path, content: Any) -> None:
    rewrite(copied, "provenance.json", content)
    assert read_bundle(copied).identity()["created"] is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("parity.json", [], "does not say that model.onnx passed"),
        ("parity.json", {"models": {"model.onnx": 3}}, "does not say that model.onnx passed"),
        ("golden/answers.json", [], "holds no predictions"),
        ("golden/answers.json", {"answers": {}}, "its golden records have no color"),
        ("golden/outputs/color.npy", None, "its golden records have no color"),
        ("golden/inputs/photo.pixels.npy", np.zeros(3), "its golden records cannot be run"),
    ],
)
def test_golden_records_and_reports_that_cannot_be_used_are_problems(
    copied: Path, name: str, content: Any, message: str
) -> None:
    rewrite(copied, name, content)
    assert any(message in problem for problem in verify_bundle(copied))


@pytest.mark.parametrize(
    "models",
    [
        {"fp32": "../model.onnx"},
        {"fp32": "/etc/passwd"},
        {"fp32": "model.ort"},
        {"fp32": "model.onnx", "bf16": "inputs/text/tokenizer.json"},
        {"fp32": "model.onnx", "int8": "tasks/color.json"},
        {"int8": "model.int8.onnx"},
        {},
    ],
)
def test_no_other_file_passes_for_a_model(copied: Path, models: dict[str, str]) -> None:
    edit(copied, {"models": models})
    refused(copied, "a bundle has fp32, and may have others, of")


def test_a_model_that_is_not_there_is_refused(copied: Path) -> None:
    edit(copied, {"models": {"fp32": "model.onnx", "int8": "model.int8.onnx"}})
    refused(copied, r"the bundle lists no model\.int8\.onnx")


@pytest.mark.parametrize(
    "changes",
    [
        {"models": {"fp32": 3}},
        {"tasks": {"color": []}},
        {"name": 3},
        {"opset": "x"},
        {"embedding": "yes"},
        {"inputs": {"text": {"column": ["a"], "modality": "text", "tensors": []}}},
        {"inputs": {"text": {"column": "a", "modality": 3, "tensors": []}}},
    ],
)
def test_a_description_of_other_types_is_refused(copied: Path, changes: dict[str, Any]) -> None:
    edit(copied, changes)
    with pytest.raises(BundleError, match=r"bundle\.json cannot be used"):
        Predictor.load(copied)


def edit(folder: Path, changes: dict[str, Any]) -> None:
    """Changes bundle.json and its hash."""
    content = json.loads((folder / "bundle.json").read_text()) | changes
    (folder / "bundle.json").write_text(json.dumps(content))
    digest = hashlib.sha256((folder / "bundle.json").read_bytes()).hexdigest()
    lines = [line for line in (folder / "SHA256SUMS").read_text().splitlines() if not line.endswith("  bundle.json")]
    lines = sorted([*lines, f"{digest}  bundle.json"], key=lambda line: line.split("  ")[1])
    (folder / "SHA256SUMS").write_text("".join(f"{line}\n" for line in lines))


def test_an_honest_model_passes(bundle: Any) -> None:
    check_onnx_file(bundle.folder / "model.onnx")
