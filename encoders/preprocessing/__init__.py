"""From raw values to arrays: the one code that training and production share. Never imports torch."""

from encoders.preprocessing.base import (
    Arrays,
    Preprocessor,
    TensorSpec,
    UnreadableValueError,
    config_arguments,
    stack_arrays,
)
from encoders.preprocessing.registry import (
    load_preprocessor,
    preprocessor_from_config,
    register_preprocessor,
    save_preprocessor,
)

__all__ = [
    "Arrays",
    "Preprocessor",
    "TensorSpec",
    "UnreadableValueError",
    "config_arguments",
    "load_preprocessor",
    "preprocessor_from_config",
    "register_preprocessor",
    "save_preprocessor",
    "stack_arrays",
]
