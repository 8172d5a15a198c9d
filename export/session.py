"""Quiet onnxruntime sessions on the requested device. Never imports torch."""

import contextlib
import ctypes
import io
import logging
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from multimodal.runtime.threads import available_cores

logger = logging.getLogger(__name__)

_TENSORRT = "TensorrtExecutionProvider"
_FATAL_ONLY = 4  # what fails while running is raised, a line on stderr would say it twice
_ERRORS_ONLY = 3  # onnxruntime's severity: 2 would print a warning for every node that stays on the CPU
# TF32 keeps 10 bits of the mantissa and fails parity; exhaustive search tunes again for every new shape; doubling
# the arena wastes memory that it never gives back
_CUDA_OPTIONS = {
    "use_tf32": "0",
    "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",
}


# one node, Identity, of a float: what onnx.helper makes of it
_SMALLEST_MODEL = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x11"
)


class DeviceError(RuntimeError):
    """Requested device that is not available; the message says what is missing and how to get it."""


def open_session(
    model: Path | bytes,
    *,
    device: str = "auto",
    threads: int | None = None,
    strict: bool = False,
    cuda_graph: bool = False,
    tensorrt: Mapping[str, str] | None = None,
) -> ort.InferenceSession:
    """Opens a session on the CPU or on CUDA.

    Args:
        device: "cpu", "cuda", "cuda:1" (the second device), or "auto": CUDA where it works, else the CPU.
        threads: of one operator on the CPU; None takes every core that this process may use.
        strict: on CUDA, reject a model of which any node would run on the CPU.
        cuda_graph: record graphs on CUDA; the session must then be run by ``export.acceleration.CudaGraphs``.
        tensorrt: options of TensorRT, which takes what it can before CUDA does.

    Raises:
        ValueError: if an argument is out of range.
        DeviceError: if "cuda", or TensorRT, was asked for and is not available.
    """
    index = device_index(device)
    if threads is not None and threads < 1:
        raise ValueError(f"threads is {threads}; give at least 1, or None for every core that this process may use")
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = available_cores() if threads is None else threads
    options.inter_op_num_threads = 1
    if planned_device(device) == "cpu":
        return _create(model, options, ["CPUExecutionProvider"])
    obstacle = _obstacle()
    if index is None or obstacle is not None:
        raise DeviceError(f"device {device!r} is not available: {obstacle}; or take device='cpu'")
    cuda = {"device_id": str(index), **_CUDA_OPTIONS, **({"enable_cuda_graph": "1"} if cuda_graph else {})}
    providers: list[Any] = [("CUDAExecutionProvider", cuda)]
    if tensorrt is not None:
        providers.insert(0, (_TENSORRT, {"device_id": str(index), **tensorrt}))
    return _open_on_cuda(model, options, device, providers, strict)


def release_memory() -> None:
    """Returns memory that only opening a session needed to the system, where the C library can (glibc).

    A third of the process: the parsed model file, before its weights were rearranged.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def session_device(session: ort.InferenceSession) -> str:
    """ "cuda" or "cpu": where the session actually runs."""
    return "cuda" if "CUDAExecutionProvider" in session.get_providers() else "cpu"


def planned_device(device: str) -> str:
    """ "cuda" or "cpu": where a session for that device will run, unless CUDA's libraries are missing."""
    return "cpu" if device_index(device) is None or (device == "auto" and _obstacle() is not None) else "cuda"


def output_sizes(session: ort.InferenceSession) -> dict[str, list[int]]:
    """Output -> its axes without the batch; -1 for one that varies."""
    axes = {output.name: output.shape[1:] for output in session.get_outputs()}
    return {name: [size if isinstance(size, int) else -1 for size in sizes] for name, sizes in axes.items()}


def run_session(session: ort.InferenceSession, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every output by name."""
    names, options = [output.name for output in session.get_outputs()], ort.RunOptions()
    options.log_severity_level = _FATAL_ONLY
    return dict(zip(names, session.run(names, dict(feed), options), strict=True))


def describe_device() -> str:
    """Device of a trial session on this machine: "cuda", or "cpu" and the reason."""
    try:
        return session_device(open_session(_SMALLEST_MODEL, device="cuda"))
    except DeviceError as error:
        return f"cpu; {error}"


def device_index(device: str) -> int | None:
    """Number of the CUDA device that "auto", "cpu", "cuda" or "cuda:1" names; None for the CPU.

    >>> device_index("cuda:1"), device_index("cpu")
    (1, None)

    Raises:
        ValueError: if it is none of these.
    """
    match = re.fullmatch(r"(cpu)|auto|cuda(?::(\d+))?", device)
    if match is None:
        raise ValueError(f"device is {device!r}; give 'auto', 'cpu', 'cuda', or 'cuda:1' for the second one")
    return None if match[1] else int(match[2] or 0)


def _open_on_cuda(
    model: Path | bytes, options: ort.SessionOptions, device: str, providers: list[Any], strict: bool
) -> ort.InferenceSession:
    absent = _load_cuda_libraries()
    session = _create(model, options, [*providers, "CPUExecutionProvider"])
    if session_device(session) == "cpu":
        reason = (
            f"onnxruntime {ort.__version__} gave a session on the CPU: it does not find the CUDA and cuDNN libraries "
            f"it was built for ({', '.join(absent) or 'its lines above say which'}); run: "
            "pip install 'multimodal-transfer[cuda]'"
        )
        if device != "auto":
            raise DeviceError(f"device {device!r} is not available: {reason}; or take device='cpu'")
        logger.warning("%s; running on the CPU", reason)
        return session
    if providers[0][0] == _TENSORRT and _TENSORRT not in session.get_providers():
        raise DeviceError(
            f"TensorRT is not available: onnxruntime {ort.__version__} does not find its libraries; run: pip install "
            "tensorrt, or take acceleration='none'"
        )
    return _create_strict(model, options, providers, device) if strict else session


def _create_strict(
    model: Path | bytes, options: ort.SessionOptions, providers: list[Any], device: str
) -> ort.InferenceSession:
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        return _create(model, options, providers)
    except Exception as error:  # onnxruntime's own have no base class in common
        raise DeviceError(
            f"device {device!r} cannot run all of this model ({error}); take strict=False to have the rest on the CPU"
        ) from error


def _create(model: Path | bytes, options: ort.SessionOptions, providers: list[Any]) -> ort.InferenceSession:
    # without its fallback, which prints and continues on another device
    return ort.InferenceSession(
        model if isinstance(model, bytes) else os.fspath(model), options, providers=providers, enable_fallback=0
    )


def _load_cuda_libraries() -> list[str]:
    """Loads the libraries of the `cuda` extra, which onnxruntime does not find itself; names missing ones."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        ort.preload_dlls()
    return re.findall(r"^Failed to load (.+?): ", printed.getvalue(), re.MULTILINE)


def _obstacle() -> str | None:
    """Reason why CUDA cannot be used, and its remedy; None if none is known."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return (
            f"the installed onnxruntime {ort.__version__} is built for the CPU alone; run: "
            "pip uninstall onnxruntime, then: pip install 'multimodal-transfer[cuda]'"
        )
    if _count_cuda_devices() == 0:
        return (
            "no NVIDIA device is visible on this machine (its driver is missing, or none is visible to this process); "
            "install the driver, and the CUDA libraries with: pip install 'multimodal-transfer[cuda]'"
        )
    return None


def _count_cuda_devices() -> int:
    """Asks the driver itself: onnxruntime would only print a line on stderr."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value
