"""Encoders: one modality in, tokens out. Importing this package loads neither torch nor transformers."""

import os

from encoders.lazy import attach_stub

# onnxruntime decides while it is imported; from 1.29 on it else sends its maker what it runs (1.31.1 on Linux, tried)
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
