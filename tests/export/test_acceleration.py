"""What makes CUDA faster: the shapes are checked here, the rest needs a device."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from support.assertions import assert_close
from support.bundles import RATE

from export import Bundle, DeviceError, Predictor, session
from export.acceleration import Buckets, accelerated_run, run_bound, session_options, tensorrt_options
from export.golden import read_golden
from export.session import open_session, run_session
from multimodal.runtime.files import cache_folder


@pytest.fixture(scope="module")
def buckets(bundle: Bundle) -> Buckets:
    predictor = Predictor.load(bundle.folder, device="cpu")
    return Buckets.of(bundle, predictor._preprocessors)


def test_the_largest_sizes_are_what_preprocessors_cut_to(buckets: Buckets) -> None:
    assert buckets.longest == {"batch": 32, "text.tokens": 8, "sound.samples": 2 * RATE}
    assert buckets.axes["photo.pixels"] == ("batch", 3, 16, 16)


def test_padding_changes_no_answer(bundle: Bundle, buckets: Buckets) -> None:
    """By contract: the masks hide it, and the records that repeat the first are dropped."""
    feed, _, _ = read_golden(bundle)
    feed = {name: array[:3] for name, array in feed.items()}
    padded = buckets.pad(feed)
    assert {len(array) for array in padded.values()} == {4}
    opened = open_session(bundle.path("model.onnx"), device="cpu")
    expected, actual = run_session(opened, feed), run_session(opened, padded)
    for name, values in expected.items():
        assert_close(actual[name][:3], values, "batches")
    run = accelerated_run("tensorrt", opened, buckets, "cuda")
    assert run is not None
    assert {name: len(array) for name, array in run(feed).items()} == dict.fromkeys(expected, 3)


def test_a_bound_run_answers_as_a_plain_one(bundle: Bundle) -> None:
    feed, _, _ = read_golden(bundle)
    opened = open_session(bundle.path("model.onnx"), device="cpu")
    bound = run_bound(opened, feed)
    for name, values in run_session(opened, feed).items():
        np.testing.assert_array_equal(bound[name], values)


def test_a_warm_up_runs_blank_batches(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor.load(bundle.folder, device="cpu")
    sizes: list[int] = []
    run = predictor._run
    monkeypatch.setattr(predictor, "_run", lambda feed: (sizes.append(len(feed["text.present"])), run(feed))[1])
    predictor.warm_up(1, 4)
    assert sizes == [1, 4]


def test_tensorrt_is_told_every_shape(buckets: Buckets, tmp_path: Path) -> None:
    options = tensorrt_options(buckets, tmp_path)
    assert "text.input_ids:1x1," in options["trt_profile_min_shapes"]
    assert f"sound.waveform:32x{2 * RATE}," in options["trt_profile_max_shapes"]
    assert "photo.pixels:8x3x16x16" in options["trt_profile_opt_shapes"]
    assert options["trt_engine_cache_path"] == str(tmp_path)


def test_an_acceleration_without_a_device_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_count_cuda_devices", lambda: 0)
    for acceleration in ("cuda_graph", "tensorrt"):
        with pytest.raises(DeviceError, match=f"acceleration '{acceleration}' needs a CUDA device, and device 'auto'"):
            Predictor.load(bundle.folder, acceleration=acceleration)
    with pytest.raises(ValueError, match="acceleration is 'fast'; give none, cuda_graph, tensorrt"):
        Predictor.load(bundle.folder, acceleration="fast")  # type: ignore[arg-type]


def test_what_a_session_is_told(bundle: Bundle, buckets: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.acceleration.planned_device", lambda device: "cuda")
    assert session_options("none", "cuda", buckets, bundle) == {}
    assert session_options("cuda_graph", "cuda", buckets, bundle) == {"cuda_graph": True}
    options = session_options("tensorrt", "cuda", buckets, bundle)["tensorrt"]
    engines = Path(options["trt_engine_cache_path"])
    assert engines.is_dir()
    assert engines.parent == cache_folder() / "tensorrt"


def test_engines_are_not_kept_where_nothing_can_be_written(
    bundle: Bundle, buckets: Buckets, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("export.acceleration.planned_device", lambda device: "cuda")
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MULTIMODAL_CACHE", str(tmp_path / "file"))
    options = session_options("tensorrt", "cuda", buckets, bundle)["tensorrt"]
    assert {name for name in options if "cache" in name} == set()
    assert "trt_profile_max_shapes" in options
    assert caplog.text.count("cannot be written") == 1


def test_tensorrt_that_is_not_there_is_an_error(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    asked: list[Any] = []
    monkeypatch.setattr(session, "_obstacle", lambda: None)
    monkeypatch.setattr(session, "_create", lambda model, options, providers: (asked.append(providers), Session())[1])
    monkeypatch.setattr(ort, "preload_dlls", lambda: None)
    open_session(bundle.path("model.onnx"), device="cuda", cuda_graph=True)
    assert asked[-1][0][1]["enable_cuda_graph"] == "1"
    with pytest.raises(DeviceError, match=r"TensorRT is not available: .*pip install tensorrt"):
        open_session(bundle.path("model.onnx"), device="cuda", tensorrt={"trt_engine_cache_enable": "1"})
    assert [name for name, _ in asked[-1][:2]] == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]


@pytest.mark.gpu
@pytest.mark.parametrize("acceleration", ["none", "cuda_graph", "tensorrt"])
def test_an_accelerated_predictor_answers_as_the_cpu_does(bundle: Bundle, acceleration: Any) -> None:
    if session._obstacle() is not None:
        pytest.skip("no CUDA device")
    if acceleration == "tensorrt" and "TensorrtExecutionProvider" not in ort.get_available_providers():
        pytest.skip("onnxruntime is built without TensorRT")
    feed, expected, _ = read_golden(bundle)
    predictor = Predictor.load(bundle.folder, device="cuda", acceleration=acceleration)
    for records in (4, 3, 4, 1):
        answers = predictor.run({name: array[:records] for name, array in feed.items()})
        for name, values in expected.items():
            assert_close(answers[name], values[:records], "cuda")
