"""The Triton repository: configs that Triton's own parser takes, and a walk through it that answers as the bundle."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from support.assertions import assert_close
from support.bundles import CONFIG, RATE, StubRun, make_table, make_three_input_model

from encoders.preprocessing.audio import AudioPreprocessor
from export import Predictor, export_bundle
from export.bundle import BundleError
from export.triton import write_triton_repository
from export.triton.pbtxt import to_pbtxt
from export.triton.stages import longest_values, stack_padded
from multimodal.config import Job
from multimodal.records import read_records

model_config_pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("media")
    return read_records(make_table(folder), root=folder)


@pytest.fixture(scope="module")
def bundle(table: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = StubRun(make_three_input_model(), Job.model_validate(CONFIG | {"name": "../my fruit"}), table)
    folder = tmp_path_factory.mktemp("export") / "bundle"
    export_bundle(run, folder, embedding=True)
    return folder


@pytest.fixture(scope="module")
def repository(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton") / "models"
    write_triton_repository(bundle, folder, max_batch_size=16)
    return folder


def parsed(repository: Path) -> dict[str, Any]:
    configs = sorted(repository.glob("*/config.pbtxt"))
    return {path.parent.name: text_format.Parse(path.read_text(), model_config_pb2.ModelConfig()) for path in configs}


def test_every_config_is_one_that_triton_parses_and_names_its_own_folder(repository):
    configs = parsed(repository)
    assert list(configs) == ["___my_fruit", *(f"___my_fruit_{part}" for part in ("answer", "graph", "preprocess"))]
    for name, config in configs.items():
        assert config.name == name
        assert config.max_batch_size == 16
        assert (repository / name / "1").is_dir()
    graph = configs["___my_fruit_graph"]
    assert graph.dynamic_batching.max_queue_delay_microseconds == 2000
    assert [entry.batch_size for entry in graph.model_warmup] == [1, 16]
    assert configs["___my_fruit_preprocess"].instance_group[0].count == 2


def test_the_graph_takes_and_gives_what_its_config_declares(repository):
    config = parsed(repository)["___my_fruit_graph"]
    session = ort.InferenceSession(repository / config.name / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    types = {"tensor(uint8)": "UINT8", "tensor(int64)": "INT64", "tensor(float)": "FP32", "tensor(bool)": "BOOL"}
    for declared, found in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [entry.name for entry in declared] == [value.name for value in found] or {
            entry.name for entry in declared
        } == {value.name for value in found}
        by_name = {value.name: value for value in found}
        for entry in declared:
            value = by_name[entry.name]
            assert model_config_pb2.DataType.Name(entry.data_type) == f"TYPE_{types[value.type]}"
            dims = [] if entry.HasField("reshape") else list(entry.dims)
            assert dims == [size if isinstance(size, int) else -1 for size in value.shape[1:]]


def test_warm_up_feeds_the_graph_something_that_it_answers(repository):
    config = parsed(repository)["___my_fruit_graph"]
    session = ort.InferenceSession(repository / config.name / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    reshaped = {entry.name for entry in config.input if entry.HasField("reshape")}
    numpy_types = {"TYPE_UINT8": np.uint8, "TYPE_INT64": np.int64, "TYPE_FP32": np.float32, "TYPE_BOOL": bool}
    for warmup in config.model_warmup:
        feed = {}
        for name, value in warmup.inputs.items():
            shape = [warmup.batch_size, *([] if name in reshaped else value.dims)]
            feed[name] = np.zeros(shape, numpy_types[model_config_pb2.DataType.Name(value.data_type)])
        assert all(np.isfinite(output).all() for output in session.run(None, feed))


def test_the_ensemble_hands_on_tensors_of_one_name_type_and_shape(repository):
    configs = parsed(repository)
    ensemble = configs["___my_fruit"]
    kinds = {entry.name: (entry.data_type, list(entry.dims)) for entry in ensemble.input}
    for step in ensemble.ensemble_scheduling.step:
        inner = configs[step.model_name]
        for entry in inner.input:
            assert kinds[step.input_map[entry.name]] == (entry.data_type, list(entry.dims)), entry.name
        assert set(step.input_map) == {entry.name for entry in inner.input}
        kinds |= {
            step.output_map[entry.name]: (entry.data_type, list(entry.dims))
            for entry in inner.output
            if entry.name in step.output_map
        }
    for entry in ensemble.output:
        assert kinds[entry.name] == (entry.data_type, list(entry.dims))
    assert {entry.name for entry in ensemble.output} == {
        "color", "color_probability", "linear", "linear_probability", "price", "embedding",
    }  # fmt: skip


# --- as Triton calls it ------------------------------------------------------------------------------------------


class TensorStub:
    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name, self.array = name, array

    def as_numpy(self) -> np.ndarray:
        return self.array


def triton_utils() -> ModuleType:
    """The part of Triton's own module that the backend uses, as its documentation has it."""
    module: Any = ModuleType("triton_python_backend_utils")
    module.Tensor = TensorStub
    module.TritonError = lambda message: SimpleNamespace(message=message)
    module.InferenceResponse = lambda output_tensors, error=None: SimpleNamespace(
        tensors={tensor.name: tensor.array for tensor in output_tensors}, error=error
    )
    module.get_input_tensor_by_name = lambda request, name: TensorStub(name, request[name])
    return module


@pytest.fixture
def models(repository: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The two Python models, started from the files that Triton would start."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", triton_utils())
    found = {}
    for part in ("preprocess", "answer"):
        folder = repository / f"___my_fruit_{part}"
        spec = importlib.util.spec_from_file_location(f"model_{part}", folder / "1" / "model.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found[part] = module.TritonPythonModel()
        found[part].initialize({"model_repository": str(folder), "model_version": "1"})
    return found


def raw(rows: list[dict[str, Any]], root: Path) -> dict[str, np.ndarray]:
    """As a client sends records: bytes, empty where missing."""

    def content(row: dict[str, Any], column: str) -> bytes:
        value = row.get(column)
        if value is None:
            return b""
        return str(value).encode() if column == "text" else (root / value).read_bytes()

    columns = {"photo": "image", "text": "text", "sound": "sound"}
    return {name: np.array([[content(row, column)] for row in rows], dtype=object) for name, column in columns.items()}


def through_the_ensemble(repository: Path, models: dict[str, Any], request: dict[str, np.ndarray]) -> dict[str, Any]:
    """What Triton does with one request: its steps, batch by batch, shapes as declared."""
    (prepared,) = models["preprocess"].execute([request])
    assert prepared.error is None, prepared.error.message
    feed = {n: a.reshape(len(a)) if n.endswith(".present") else a for n, a in prepared.tensors.items()}
    graph = ort.InferenceSession(repository / "___my_fruit_graph/1/model.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in graph.get_outputs()]
    outputs = dict(zip(names, graph.run(names, feed), strict=True))
    (answered,) = models["answer"].execute([outputs])
    return answered.tensors | {"embedding": outputs["embedding"]}


def test_the_ensemble_answers_as_the_bundle(repository, bundle, models, table):
    answers = through_the_ensemble(repository, models, raw(list(table.rows), table.root))
    expected = Predictor.load(bundle, device="cpu").predict(table)
    for row, answer in enumerate(expected):
        assert answers["color"][row, 0].decode() == answer["color"].label
        assert_close(answers["color_probability"][row, 0], answer["color"].probability, "onnx")
        assert answers["linear"][row, 0].decode() == ";".join(answer["linear"].labels)
        assert_close(answers["price"][row, 0], answer["price"].value, "onnx")
        assert_close(answers["embedding"][row], answer["embedding"].embedding, "onnx")


def test_requests_of_nearly_one_length_get_one_shape_so_that_triton_batches_them(models, table):
    requests = [raw([row], table.root) for row in table.rows[:9] if row["sound"] is not None]
    shapes = {response.tensors["sound.waveform"].shape for response in models["preprocess"].execute(requests)}
    alone = {np.ceil(len(request["sound"][0, 0]) / 2) for request in requests}
    assert len(shapes) < len(alone)


def test_a_bad_request_fails_alone_with_its_reason(models, table):
    good = raw(list(table.rows[:1]), table.root)
    bad = good | {"photo": np.array([[b"no picture"]], dtype=object)}
    nothing = {name: np.array([[b""]], dtype=object) for name in good}
    garbled = good | {"text": np.array([[b"\xff\xfe"]], dtype=object)}
    answers = models["preprocess"].execute([bad, good, nothing, garbled])
    assert "record 0 (counted from 0), photo: " in answers[0].error.message
    assert answers[1].error is None
    assert "every input is missing" in answers[2].error.message
    assert "the text is not UTF-8" in answers[3].error.message


# --- parts -------------------------------------------------------------------------------------------------------


def test_padding_adds_what_the_preprocessor_pads_with():
    preprocessor = AudioPreprocessor(RATE, max_seconds=2.0)
    samples = [preprocessor((np.full(n, 0.5, np.float32), RATE)) for n in (3000, 4000)]
    longest = longest_values(preprocessor.to_config())
    stacked, padded = preprocessor.stack(samples), stack_padded(preprocessor, samples, longest)
    assert longest == {"samples": 16000}
    assert padded["waveform"].shape == (2, 4096)
    for name, array in stacked.items():
        assert np.array_equal(padded[name][:, :4000], array)
        assert not padded[name][:, 4000:].any()


def test_a_preprocessor_of_others_is_not_padded():
    assert longest_values({"kind": "their/spectrum"}) == {}


@given(st.text())
def test_any_text_comes_back_from_the_config_as_it_was(text):
    config = text_format.Parse(to_pbtxt({"name": text}), model_config_pb2.ModelConfig())
    assert config.name == text


def test_a_repository_is_not_written_over_another_and_not_from_a_damaged_bundle(bundle, repository, tmp_path):
    with pytest.raises(BundleError, match="is not an empty folder"):
        write_triton_repository(bundle, repository)
    with pytest.raises(ValueError, match="max_batch_size is 0; give at least 1"):
        write_triton_repository(bundle, tmp_path / "models", max_batch_size=0)
    with pytest.raises(BundleError, match="is not a bundle"):
        write_triton_repository(tmp_path, tmp_path / "models")
    assert not (tmp_path / "models").exists()
