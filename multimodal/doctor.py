"""Versions and devices of this machine, and what onnxruntime really runs on."""

import importlib.metadata
import platform

from multimodal.runtime.threads import available_cores

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


def report(onnxruntime_device: str) -> list[tuple[str, str]]:
    """(what, what was found) pairs.

    Args:
        onnxruntime_device: what a session of onnxruntime really ran on.
    """
    rows = [("python", platform.python_version()), ("system", platform.platform())]
    rows += [(name, _version(name)) for name in PACKAGES]
    return [
        *rows,
        ("cores for this process", str(available_cores())),
        ("onnxruntime runs on", onnxruntime_device),
        *_torch(),
    ]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _torch() -> list[tuple[str, str]]:
    try:
        import torch
    except ModuleNotFoundError:
        return [("torch", "not installed; training needs: pip install 'multimodal-transfer[train]'")]
    if not torch.cuda.is_available():
        return [("CUDA device in torch", "none")]
    return [("CUDA device in torch", torch.cuda.get_device_name())]
