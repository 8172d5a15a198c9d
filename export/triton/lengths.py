"""Few lengths instead of many: Triton batches only requests whose tensors have one shape. Never imports torch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from encoders.preprocessing import Arrays, Preprocessor
from export.lengths import rounded_length

SIZES, SHORTEST = 2, 8
"""Lengths an octave, and the smallest: the fewer there are, the more requests share a batch."""


def longest_values(config: Mapping[str, Any]) -> dict[str, int]:
    """Axis -> its largest size, of our own preprocessors; those of others are not padded, as theirs is not known.

    Args:
        config: what ``preprocess.json`` holds.

    >>> longest_values({"kind": "audio", "sample_rate": 16000, "max_seconds": 2.0})
    {'samples': 32000}
    """
    if config["kind"] in ("text", "words"):
        return {"tokens": int(config["max_tokens"])}
    if config["kind"] == "audio":
        return {"samples": int(config["max_seconds"] * config["sample_rate"])}
    return {}


def stack_padded(preprocessor: Preprocessor, samples: Sequence[Arrays], longest: Mapping[str, int]) -> Arrays:
    """Stacks samples as the preprocessor does, its varying axes padded to one of few lengths."""
    stacked = preprocessor.stack(samples)
    filler = {spec.name: np.zeros(_shape(stacked, spec, longest), spec.dtype) for spec in preprocessor.tensors}
    return {name: array[:-1] for name, array in preprocessor.stack([*samples, filler]).items()}


def _shape(stacked: Arrays, spec: Any, longest: Mapping[str, int]) -> tuple[int, ...]:
    """Of one sample, padded."""
    sizes = zip(stacked[spec.name].shape[1:], spec.axes[1:], strict=True)
    return tuple(
        rounded_length(size, longest[axis], sizes=SIZES, shortest=SHORTEST) if axis in longest else size
        for size, axis in sizes
    )
