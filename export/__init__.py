"""From a trained run to a bundle, and from a bundle to answers. Importing it loads neither torch nor transformers."""

import importlib
from typing import TYPE_CHECKING, Any

import encoders as encoders  # before onnxruntime, which it keeps from telling its maker what it runs

if TYPE_CHECKING:
    from export.bundle import Bundle, BundleError
    from export.exporter import export_bundle
    from export.gallery import Gallery, GalleryError
    from export.parity import ParityError
    from export.predictions import write_predictions
    from export.predictor import Predictor
    from export.session import DeviceError
    from export.verify import verify_bundle
    from multimodal.decoding import Prediction
    from multimodal.records import RecordError

__all__ = [
    "Bundle",
    "BundleError",
    "DeviceError",
    "Gallery",
    "GalleryError",
    "ParityError",
    "Prediction",
    "Predictor",
    "RecordError",
    "export_bundle",
    "verify_bundle",
    "write_predictions",
]

_HOMES = {
    "Bundle": "export.bundle",
    "BundleError": "export.bundle",
    "DeviceError": "export.session",
    "Gallery": "export.gallery",
    "GalleryError": "export.gallery",
    "ParityError": "export.parity",
    "Prediction": "multimodal.decoding",
    "Predictor": "export.predictor",
    "RecordError": "multimodal.records.records",
    "export_bundle": "export.exporter",
    "verify_bundle": "export.verify",
    "write_predictions": "export.predictions",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'export' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "onnx", "onnxscript"):
            raise
        line = f"{error.name} is not installed; run: pip install 'multimodal-transfer[train]'"
        raise ModuleNotFoundError(line, name=error.name) from error
