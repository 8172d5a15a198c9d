"""Parts of a bundle, opened and checked: preprocessors, decodings, sessions. Never imports torch."""

import platform
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from encoders.onnx.file import check_onnx_file
from encoders.preprocessing import Preprocessor, load_preprocessor
from export.bundle import Bundle, BundleError
from export.bundle_folder import check_hashes
from export.session import DeviceError, open_session, planned_device, session_device
from multimodal.decoding import Decoding
from multimodal.inference.batching import reason_of
from multimodal.task_types import TASK_TYPES
from multimodal.task_types.registry import task_decoding

_ONNX_TYPES = {"float32": "float", "float64": "double"}  # the others have the same name
INT8_FLAGS = ("avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm")
"""Instructions that multiply and add 8-bit numbers without saturating, as Linux names them."""


@contextmanager
def _usable(place: str | Path) -> Iterator[None]:
    """Turns what a part's description raises inside the block into a BundleError."""
    try:
        yield
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise BundleError(f"{place} cannot be used ({error}); export it again") from error
    except ModuleNotFoundError:  # of a library of ours, which the machine has not
        raise
    except (LookupError, ImportError) as error:  # of a plug-in: says what to allow or to install
        raise BundleError(f"{place}: {error}") from error


def load_input(bundle: Bundle, name: str, allow_plugins: Collection[str] | None) -> Preprocessor:
    """Preprocessor of an input.

    Args:
        allow_plugins: preprocessors of other distributions that may be loaded; None allows every installed one.

    Raises:
        BundleError: if its description cannot be used, it gives other tensors than the bundle declares, or it is
            not allowed or not installed.
    """
    folder, declared = bundle.folder / "inputs" / name, bundle.inputs[name].tensors
    with _usable(folder):
        preprocessor = load_preprocessor(folder, allow_plugins=allow_plugins)
        tensors = tuple(preprocessor.tensors)
    if tensors != declared:
        raise BundleError(f"{folder} gives {tensors}, and the bundle declares {declared}; export it again")
    return preprocessor


def load_decoding(bundle: Bundle, task: str, sizes: Sequence[int], allow_plugins: Collection[str] | None) -> Decoding:
    """Decoding of a task's raw outputs.

    Args:
        sizes: axes of the outputs without the batch; -1 for one that varies.
        allow_plugins: task types of other distributions that may be loaded; None allows every installed one.

    Raises:
        BundleError: if its description cannot be used, is one of other outputs, or its type is not allowed or not
            installed.
    """
    content, place = bundle.read_json(f"tasks/{task}.json"), f"{bundle.folder}: tasks/{task}.json"
    kind = content.get("type") if isinstance(content, dict) else None
    if kind != bundle.tasks[task] or not (kind in TASK_TYPES.built_in or "distribution" in content):
        raise BundleError(f"{place} cannot be used (its type is {kind!r}); export it again")
    with _usable(place):
        decoding = task_decoding(content, allowed=allow_plugins)
        decoding.predictions(np.zeros((1, *map(abs, sizes)), np.float32))
    return decoding


def open_model(bundle: Bundle, precision: str, *, device: str, **options: Any) -> tuple[ort.InferenceSession, str]:
    """Session of the precision that suits the device, and the precision's name; checks the model's hash.

    Args:
        options: of ``open_session``.

    Raises:
        BundleError, DeviceError, ValueError: as ``load_session`` and ``choose_model_precision``.
    """
    chosen = choose_model_precision(bundle, precision, planned_device(device))
    session = _load_checked(bundle, chosen, device=device, **options)
    suitable = choose_model_precision(bundle, precision, session_device(session))
    if suitable == chosen:
        return session, chosen
    # "auto" fell back to the CPU
    return _load_checked(bundle, suitable, device="cpu", **options), suitable


def _load_checked(bundle: Bundle, precision: str, **options: Any) -> ort.InferenceSession:
    """Hashes the model while onnxruntime reads it, which halves the time; if both fail, damage is the reason."""
    file = bundle.models[precision]
    with ThreadPoolExecutor(max_workers=1) as pool:
        hashed = pool.submit(check_hashes, bundle, [file])
        try:
            return load_session(bundle, bundle.path(file), **options)
        finally:
            hashed.result()


def choose_model_precision(bundle: Bundle, precision: str, device: str) -> str:
    """Given precision, or for "auto" the one that suits the device.

    Raises:
        ValueError: if the bundle has none of that name.
    """
    if precision == "auto":
        wanted = "fp16" if device == "cuda" else "int8" if int8_instructions() else "fp32"
        return wanted if wanted in bundle.models else "fp32"
    if precision not in bundle.models:
        raise ValueError(
            f"precision is {precision!r}; this bundle holds {', '.join(bundle.models)}, so give one of them or 'auto'"
        )
    return precision


def int8_instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Members of ``INT8_FLAGS`` that this CPU has; none where the system does not tell.

    Without them 8-bit products of unsigned and signed numbers may saturate, and are hardly faster than float32.
    """
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return ("asimddp",)  # every Apple CPU
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    named = {flag for line in text.splitlines() if line.startswith(("flags", "Features")) for flag in line.split()}
    return tuple(flag for flag in INT8_FLAGS if flag in named)


def load_session(bundle: Bundle, model: Path, **options: Any) -> ort.InferenceSession:
    """Session of one of the bundle's models, whose file is inspected first.

    Args:
        options: of ``open_session``.

    Raises:
        BundleError: if the model needs more than a bundle has, onnxruntime rejects it, or it is not as declared.
        DeviceError, ValueError: as ``open_session``.
    """
    try:
        check_onnx_file(model)
    except ValueError as error:
        raise BundleError(str(error)) from error
    try:
        session = open_session(model, **options)
    except (DeviceError, ValueError):
        raise
    except Exception as error:  # onnxruntime's own have no base class in common
        raise BundleError(f"{model}: onnxruntime rejects it ({reason_of(error)}); export it again") from error
    check_signature(bundle, session)
    return session


def check_signature(bundle: Bundle, session: ort.InferenceSession) -> None:
    """Checks that the graph has the inputs and outputs that the bundle declares.

    Raises:
        BundleError: if it has others.
    """
    declared = {}
    for name, entry in bundle.inputs.items():
        for spec in entry.tensors:
            axes = [f"{name}_{axis}" if isinstance(axis, str) and axis != "batch" else axis for axis in spec.axes]
            declared[f"{name}.{spec.name}"] = (f"tensor({_ONNX_TYPES.get(spec.dtype, spec.dtype)})", axes)
        declared[f"{name}.present"] = ("tensor(bool)", ["batch"])
    found = {value.name: (value.type, list(value.shape)) for value in session.get_inputs()}
    outputs = bundle.outputs
    if found != declared or [value.name for value in session.get_outputs()] != outputs:
        raise BundleError(
            f"{bundle.folder}: the ONNX graph takes {found} and gives "
            f"{[value.name for value in session.get_outputs()]}, but the bundle declares {declared} and {outputs}; "
            "export it again"
        )
