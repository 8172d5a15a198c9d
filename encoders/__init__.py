"""Encoders: one modality in, tokens out. Importing this package loads neither torch nor transformers."""

import os
from typing import TYPE_CHECKING, Any

from encoders.registry import (
    EncoderInfo,
    create_encoder,
    find_encoder,
    list_encoders,
    missing_extra,
    register_encoder,
)

if TYPE_CHECKING:
    from encoders.base import Encoder

__all__ = ["Encoder", "EncoderInfo", "create_encoder", "find_encoder", "list_encoders", "register_encoder"]


# onnxruntime decides while it is imported; from 1.29 on it else sends its maker what it runs (1.31.1 on Linux, tried)
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    if name == "Encoder":
        try:
            from encoders.base import Encoder
        except ModuleNotFoundError as error:
            raise missing_extra(error, "train") from error
        return Encoder
    raise AttributeError(f"module 'encoders' has no attribute {name!r}")
