"""What this machine has: versions, devices, and what onnxruntime really runs on."""

import importlib.metadata
import platform

from multimodal.threads import available_cores

PACKAGES = (
    "multimodal-transfer",
    "numpy",
    "onnxruntime-gpu",
    "onnxruntime",
    "torch",
    "torchvision",
    "torchaudio",
    "transformers",
    "onnx",
)


def report() -> list[tuple[str, str]]:
    """(what, what was found) pairs."""
    rows = [("python", platform.python_version()), ("system", platform.platform())]
    rows += [(name, _version(name)) for name in PACKAGES]
    return [*rows, ("cores for this process", str(available_cores())), *_onnxruntime(), *_torch()]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _onnxruntime() -> list[tuple[str, str]]:
    import onnxruntime

    # what is compiled in; whether CUDA really runs shows only when a session is made
    return [("onnxruntime was built with", ", ".join(onnxruntime.get_available_providers()))]


def _torch() -> list[tuple[str, str]]:
    try:
        import torch
    except ModuleNotFoundError:
        return [("torch", "not installed; training needs: pip install 'multimodal-transfer[train]'")]
    if not torch.cuda.is_available():
        return [("CUDA device in torch", "none")]
    return [("CUDA device in torch", torch.cuda.get_device_name())]
