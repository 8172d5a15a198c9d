"""Settings of the caller for torch, numpy and random change nothing, and are left as they were."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny_models import make_rows
from support.tiny_pretrained import plant, shop_job, write_shop

import multimodal as mm
from multimodal.run import Run
from multimodal.runtime.torch_state import isolated_torch_state


def setting(get: Callable[[], Any], put: Callable[[Any], None], value: Any) -> Callable[[], AbstractContextManager]:
    @contextmanager
    def change() -> Iterator[None]:
        before = get()
        put(value)
        try:
            yield
        finally:
            put(before)

    return change


def seeded() -> None:
    torch.manual_seed(99)
    np.random.seed(98)
    random.seed(97)


@contextmanager
def other_random_states() -> Iterator[None]:
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    seeded()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


STATES: dict[str, Callable[[], AbstractContextManager]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "set_grad_enabled": lambda: torch.set_grad_enabled(False),
    "float64": setting(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "default device": setting(lambda: None, torch.set_default_device, "meta"),
    "device context": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "deterministic": setting(
        torch.are_deterministic_algorithms_enabled,
        lambda value: torch.use_deterministic_algorithms(value, warn_only=value),
        True,
    ),
    "matmul in bfloat16": setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"),
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True, check_nan=True),
    "random states": other_random_states,
}


def state() -> list[Any]:
    words = torch.get_rng_state().numpy(force=True) if torch.get_default_device().type == "cpu" else b""
    return [
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_autocast_enabled("cpu"),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_float32_matmul_precision(),
        torch.is_anomaly_enabled(),
        torch.get_num_threads(),
        bytes(words),
        np.random.get_state(legacy=False)["state"]["key"].tobytes(),
        random.getstate(),
    ]


def make_job() -> mm.Job:
    return mm.Job.model_validate(
        {
            "name": "small",
            "data": {"workers": 0},
            "inputs": {
                "image": {"encoder": "compact/image", "weights": None, "options": {"image_size": 32}},
                "text": {"encoder": "compact/text"},
            },
            "fusion": {"name": "concat", "dim": 8},
            "tasks": {"color": {}},
            "transfer": {"strategy": "finetune", "guard": "off"},
            "train": {"epochs": 1, "batch_size": 8},
        }
    )


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Path]:
    folder = tmp_path_factory.mktemp("media")
    return make_rows(folder, 16), folder


@pytest.fixture(scope="module")
def plain(rows: tuple[list[dict[str, Any]], Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return mm.fit(make_job(), train=rows[0], root=rows[1], out=tmp_path_factory.mktemp("runs") / "plain")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run whose export takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        yield mm.fit(shop_job(write_shop(tmp_path_factory.mktemp("shop"))), out=tmp_path_factory.mktemp("tiny") / "run")


@pytest.fixture(scope="module")
def graph(tiny: Run, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("bundles") / "plain"
    mm.export_bundle(Run(tiny.folder), folder)
    return (folder / "model.onnx").read_bytes()


def weights(run: Run) -> bytes:
    return (run.folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", STATES)
def test_no_state_of_the_caller_changes_the_weights_or_the_metrics(rows, plain, tmp_path, name):
    table, root = rows
    expected = plain.evaluate(table, root=root)
    with STATES[name]():
        before = state()
        run = mm.fit(make_job(), train=table, root=root, out=tmp_path / "run")
        assert state() == before
        metrics = run.evaluate(table, root=root)
        assert state() == before
    assert weights(run) == weights(plain)
    assert metrics == expected
    assert all(not tensor.is_inference() and tensor.device.type == "cpu" for tensor in run.model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", STATES)
def test_no_state_of_the_caller_changes_the_bundle(tiny, graph, tmp_path, name):
    with STATES[name]():
        before = state()
        mm.export_bundle(Run(tiny.folder), tmp_path / "bundle")
        assert state() == before
    assert (tmp_path / "bundle/model.onnx").read_bytes() == graph


@isolated_torch_state()
def failing() -> None:
    torch.rand(3, requires_grad=True).sum().backward()
    raise KeyError


@pytest.mark.parametrize("name", STATES)
def test_an_error_leaves_the_state_as_it_was_too(name):
    with STATES[name]():
        before = state()
        with pytest.raises(KeyError):
            failing()
        assert state() == before


def test_inside_everything_is_as_in_a_fresh_process():
    with isolated_torch_state():
        fresh = state()
    for entered in (*STATES.values(), nullcontext):
        with entered(), isolated_torch_state():
            assert state() == fresh


def test_the_number_of_threads_is_the_callers_inside_as_well(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        with isolated_torch_state():
            assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.gpu
def test_random_numbers_on_cuda_go_on_where_they_were():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    torch.cuda.manual_seed(3)
    first, expected = torch.rand(2, device="cuda"), torch.rand(2, device="cuda")
    torch.cuda.manual_seed(3)
    assert torch.equal(torch.rand(2, device="cuda"), first)
    with isolated_torch_state():
        torch.rand(5, device="cuda")
    assert torch.equal(torch.rand(2, device="cuda"), expected)
