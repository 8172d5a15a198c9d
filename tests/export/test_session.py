"""Devices, and what is said where one is not available."""

import logging
import os
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from export import Bundle, DeviceError, session
from export.session import _SMALLEST_MODEL, describe_device, open_session, session_device
from multimodal.runtime.threads import available_cores


@pytest.fixture
def model(bundle: Bundle) -> Path:
    return bundle.path("model.onnx")


def no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_count_cuda_devices", lambda: 0)


def test_auto_takes_the_cpu_where_there_is_no_device(
    model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    no_device(monkeypatch)
    assert session_device(open_session(model)) == "cpu"
    assert capfd.readouterr() == ("", "")


def test_threads_are_those_that_the_process_may_use(model: Path) -> None:
    assert open_session(model, device="cpu").get_session_options().intra_op_num_threads == available_cores()
    assert open_session(model, device="cpu", threads=3).get_session_options().intra_op_num_threads == 3
    if hasattr(os, "sched_getaffinity"):
        assert available_cores() == len(os.sched_getaffinity(0))


def test_cuda_without_a_device_says_what_to_install(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_device(monkeypatch)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(DeviceError, match=r"no NVIDIA device is visible.*pip install 'multimodal-transfer\[cuda\]'"):
        open_session(model, device="cuda")


def test_cuda_with_the_cpu_build_says_what_to_install(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match=r"built for the CPU alone; run: pip uninstall.*multimodal-transfer\[cuda\]"):
        open_session(model, device="cuda:1")


def silently_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device and a driver, but no CUDA libraries: onnxruntime gives a session on the CPU without a word."""
    create = session._create
    monkeypatch.setattr(session, "_obstacle", lambda: None)
    monkeypatch.setattr(session, "_create", lambda model, options, _: create(model, options, ["CPUExecutionProvider"]))
    printed = "Failed to load libcublas.so.13: cannot open shared object file\nPlease follow ..."
    monkeypatch.setattr(ort, "preload_dlls", lambda: print(printed))


@pytest.mark.parametrize("strict", [False, True])
def test_a_cuda_session_that_runs_on_the_cpu_is_refused(
    model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], strict: bool
) -> None:
    silently_on_the_cpu(monkeypatch)
    with pytest.raises(DeviceError, match=r"gave a session on the CPU.*\(libcublas\.so\.13\); run: pip install"):
        open_session(model, device="cuda", strict=strict)
    assert capfd.readouterr() == ("", "")


def test_auto_says_so_when_a_device_cannot_be_used(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    silently_on_the_cpu(monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert session_device(open_session(model)) == "cpu"
    assert "running on the CPU" in caplog.text


def test_strict_refuses_a_model_of_which_a_part_would_run_on_the_cpu(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Session:
        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def create(model: Path, options: ort.SessionOptions, providers: list[Any]) -> Session:
        assert providers[0][1]["use_tf32"] == "0"  # TF32 would not pass parity
        assert providers[0][1]["device_id"] == "2"
        if "CPUExecutionProvider" not in providers:
            raise RuntimeError("nodes are assigned to the CPU")
        return Session()

    monkeypatch.setattr(session, "_obstacle", lambda: None)
    monkeypatch.setattr(session, "_create", create)
    monkeypatch.setattr(ort, "preload_dlls", lambda: None)
    assert session_device(open_session(model, device="cuda:2")) == "cuda"
    with pytest.raises(DeviceError, match=r"cannot run all of this model \(nodes.*take strict=False"):
        open_session(model, device="cuda:2", strict=True)


def test_an_unknown_device_is_refused(model: Path) -> None:
    with pytest.raises(ValueError, match="device is 'gpu'; give 'auto', 'cpu', 'cuda'"):
        open_session(model, device="gpu")


def test_no_threads_are_refused(model: Path) -> None:
    with pytest.raises(ValueError, match="threads is 0; give at least 1"):
        open_session(model, threads=0)


@pytest.mark.gpu
def test_a_cuda_session_answers_as_the_cpu_does(bundle: Bundle) -> None:
    from export.golden import read_golden

    if session._obstacle() is not None:
        pytest.skip("no CUDA device")
    feed, expected, _ = read_golden(bundle)
    on_cuda = open_session(bundle.path("model.onnx"), device="cuda")
    for name, values in expected.items():
        assert abs(on_cuda.run([name], feed)[0] - values).max() <= 1e-3


def test_the_model_that_tries_a_device_is_one_node():
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", value[:1], value[1:])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    assert model.SerializeToString() == _SMALLEST_MODEL


def test_the_device_that_is_described_is_the_one_a_session_gets():
    session = open_session(_SMALLEST_MODEL, device="auto")
    assert describe_device().startswith(session_device(session))
