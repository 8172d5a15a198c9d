"""The graph: names, axes, and nothing in it that does not belong there."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from support.assertions import assert_close
from support.bundles import StubRun, TinySound, make_three_input_model
from support.tiny_models import TinyText
from torch import Tensor

from encoders.onnx.graph import rename_values, value_names
from encoders.preprocessing import TensorSpec
from export import Bundle, to_onnx
from export.graph import strip
from export.parity import Case, flat_feed, parity_cases, synthetic_batch
from export.session import open_session
from fusion import create_fusion
from multimodal.evaluation import run_torch
from multimodal.model import MultimodalModel
from multimodal.model.heads import RegressionHead
from multimodal.model.input_heads import LateHead
from multimodal.records import InputReader


@pytest.fixture(scope="module")
def graph(bundle: Bundle) -> onnx.ModelProto:
    return onnx.load(bundle.path("model.onnx"))


def axes(value: onnx.ValueInfoProto) -> list[str | int]:
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


def test_inputs_and_outputs_have_the_declared_names_and_axes(graph: onnx.ModelProto) -> None:
    assert {value.name: axes(value) for value in graph.graph.input} == {
        "photo.pixels": ["batch", 3, 16, 16],
        "photo.present": ["batch"],
        "text.input_ids": ["batch", "text_tokens"],
        "text.attention_mask": ["batch", "text_tokens"],
        "text.present": ["batch"],
        "sound.waveform": ["batch", "sound_samples"],
        "sound.waveform_mask": ["batch", "sound_samples"],
        "sound.present": ["batch"],
    }
    expected = {"color": 3, "linear": 2, "price": 1, "embedding": 8}
    assert {value.name: axes(value) for value in graph.graph.output} == {
        name: ["batch", width] for name, width in expected.items()
    }


def test_the_opset_is_the_one_that_was_asked_for(graph: onnx.ModelProto) -> None:
    assert {entry.domain: entry.version for entry in graph.opset_import} == {"": 20}


def test_values_inside_give_way_to_outputs_of_the_same_name(graph: onnx.ModelProto) -> None:
    # nn.Embedding and nn.Linear call their values so; without renaming onnxruntime refuses the graph
    assert {"embedding.inner", "linear.inner"} <= value_names(graph.graph)


def test_no_path_no_time_and_no_note_of_the_exporter_is_in_the_file(bundle: Bundle, graph: onnx.ModelProto) -> None:
    content = bundle.path("model.onnx").read_bytes()
    assert not re.findall(rb"/(?:home|root|usr|work|tmp|opt|lib)/|site-packages|\.py|stack_trace|[A-Z]:\\", content)
    assert str(Path.cwd()).encode() not in content
    assert not graph.metadata_props
    assert not graph.graph.value_info
    assert not any(node.metadata_props or node.doc_string for node in graph.graph.node)
    assert not any(value.metadata_props for value in (*graph.graph.input, *graph.graph.output))
    assert "+" not in graph.producer_version


def test_parameters_that_only_a_loss_uses_are_not_exported(run: StubRun, graph: onnx.ModelProto) -> None:
    assert run.model.heads["color"].loss_only.shape == (77,)
    assert [77] not in [list(tensor.dims) for tensor in graph.graph.initializer]


def test_embedding_is_the_fused_vector_at_length_one(run: StubRun, bundle: Bundle) -> None:
    batch = synthetic_batch(run.readers, 3)
    session = open_session(bundle.path("model.onnx"), device="cpu")
    (embedding,) = session.run(["embedding"], flat_feed(batch))
    tensors = {name: {key: torch.from_numpy(a) for key, a in arrays.items()} for name, arrays in batch.items()}
    fused = run.model(tensors).fused.detach().numpy()
    assert_close(embedding, fused / np.linalg.norm(fused, axis=1, keepdims=True), "onnx")


@pytest.mark.slow
def test_equal_models_give_equal_bytes_and_keep_their_modes(bundle: Bundle) -> None:
    model = make_three_input_model().train()
    modes = [module.training for module in model.modules()]
    assert to_onnx.to_onnx(model, embedding=True) == bundle.path("model.onnx").read_bytes()
    assert [module.training for module in model.modules()] == modes


def one_input_model(encoder: TinySound) -> MultimodalModel:
    return MultimodalModel({"sound": encoder}, create_fusion("concat", {"sound": 6}), {"price": RegressionHead(6)})


@pytest.mark.slow
def test_one_input_is_enough_and_two_may_share_an_encoder(tmp_path: Path) -> None:
    encoder = TinySound()
    fusion = create_fusion("concat", {"near": 6, "far": 6})
    model = MultimodalModel({"near": encoder, "far": encoder}, fusion, {"price": RegressionHead(12)}).eval()
    for name, tried in {"one.onnx": one_input_model(encoder).eval(), "shared.onnx": model}.items():
        (tmp_path / name).write_bytes(to_onnx.to_onnx(tried))
        (batch,) = [case.batch for case in to_onnx_cases(tried) if case.name == "mixed"]
        actual = open_session(tmp_path / name, device="cpu").run(["price"], flat_feed(batch))[0]
        assert_close(actual, run_torch(tried, batch)["price"], "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 6])
def test_late_fusion_hears_inputs_whose_tokens_are_normalised_to_zeros(tmp_path: Path, width: int) -> None:
    sound, text = TinySound(width), TinyText()
    torch.nn.init.zeros_(text.project.weight)
    torch.nn.init.ones_(text.project.bias)  # every token is the same number everywhere
    dims = {"sound": width, "text": text.embed_dim}
    head = LateHead({name: RegressionHead(dim) for name, dim in dims.items()}, dims)
    model = MultimodalModel({"sound": sound, "text": text}, create_fusion("late", dims), {"price": head}).eval()
    (tmp_path / "late.onnx").write_bytes(to_onnx.to_onnx(model))
    session = open_session(tmp_path / "late.onnx", device="cpu")
    cases = to_onnx_cases(model)
    for case in cases:
        expected = run_torch(model, case.batch)["price"]
        assert_close(session.run(["price"], flat_feed(case.batch))[0], expected, "onnx")
        alone = case.batch["text"]["present"] & ~case.batch["sound"]["present"]
        assert_close(expected[alone, 0], np.full(alone.sum(), head.head("text").linear.bias.item()))
    assert any((case.batch["text"]["present"] & ~case.batch["sound"]["present"]).any() for case in cases)


def to_onnx_cases(model: MultimodalModel) -> list[Case]:
    readers = {name: InputReader(name, name, model.encoder(name).preprocessor) for name in model.input_names}
    return list(parity_cases(readers))


def test_an_encoder_whose_python_depends_on_values_is_refused() -> None:
    class Branching(TinySound):
        def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            if inputs["waveform"].sum() > 0:
                inputs = {**inputs, "waveform": -inputs["waveform"]}
            return super().forward(inputs)

    with pytest.raises(to_onnx.OnnxError, match=r"torch cannot export this model \(.*if mask.any"):
        to_onnx.to_onnx(one_input_model(Branching()).eval())


def test_an_opset_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="opset is 23; give 18 to 22, 20 if in doubt"):
        to_onnx.to_onnx(make_three_input_model(), opset=23)


def test_a_task_called_embedding_and_that_output_exclude_each_other() -> None:
    model = MultimodalModel(
        {"sound": TinySound()}, create_fusion("concat", {"sound": 6}), {"embedding": RegressionHead(6)}
    )
    with pytest.raises(ValueError, match=r"a task is called 'embedding'.*rename the task"):
        to_onnx.to_onnx(model, embedding=True)


def test_a_model_too_large_for_one_file_is_refused_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(to_onnx, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match=r"has 0\.0 GB of weights, and one ONNX file holds at most"):
        to_onnx.to_onnx(make_three_input_model())


@pytest.mark.parametrize(
    ("slots", "outputs", "opset", "message"),
    [
        ([("a", TensorSpec("x", "float32", ("batch", 4)))], ["y"], 20, "inputs .*'length'.* are declared; look for"),
        ([("a", TensorSpec("x", "float32", ("batch", "length")))], ["z"], 20, r"outputs \['y'\], not \['z'\]"),
        ([("a", TensorSpec("x", "float32", ("batch", "length")))], ["y"], 19, "wrote opset 20, not 19"),
    ],
)
def test_a_graph_that_is_not_what_was_asked_for_is_refused(
    slots: list, outputs: list[str], opset: int, message: str
) -> None:
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[batch,a_length] a_x) => (float[batch,a_length] y) '
    model = onnx.parser.parse_model(text + "{ y = Relu(a_x) }")
    rename_values(model.graph, {"a_x": "a.x"})
    with pytest.raises(to_onnx.OnnxError, match=message.replace("'length'", "a_length")):
        to_onnx._check_graph(model, slots, outputs, opset)


def test_branches_are_stripped_and_renamed_too() -> None:
    text = """<ir_version: 10, opset_import: ["" : 20]>
    g (bool c, float[n] x) => (float[n] y) <float[1] w = {1.0}, float[1] u = {2.0}> {
        y = If (c) <
            then_branch = t () => (float[n] a) { a = Add(x, w) },
            else_branch = e () => (float[n] b) { b = Neg(x) }
        >
    }"""
    model = onnx.parser.parse_model(text)
    for attribute in model.graph.node[0].attribute:
        attribute.g.node[0].doc_string = "/home/somebody/model.py"
    rename_values(model.graph, {"w": "weight"})
    strip(model)
    assert b"somebody" not in model.SerializeToString()
    assert "weight" in model.graph.node[0].attribute[0].g.node[0].input
    assert [tensor.name for tensor in model.graph.initializer] == ["weight"]  # u is used by nobody
