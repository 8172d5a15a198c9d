"""Occlusion of parts of one input: regions, seconds, words. Never imports torch."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from encoders.preprocessing import Arrays
from multimodal.explain.explanation_target import ExplanationTarget
from multimodal.inference.record_model import RecordModel, Sample

GRID = 6
"""Windows side by side in an image; they overlap by half, so that there are 11 x 11."""
TIMES = 12
"""Windows in a row in a clip; they overlap by half, so that there are 23."""
MAX_WORDS = 256
"""Words of a text that are deleted, from its beginning."""

# a word, or one character of a script that does not put spaces between words
_WORD = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\\s\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")

Span = tuple[int, ...]
"""Image: left, top, right, bottom in pixels; audio: start, end in samples; text: start, end in characters."""


@dataclass(frozen=True)
class Parts:
    """Parts of an input, and the input without each."""

    kind: Literal["image", "audio", "text"]
    spans: Sequence[Span]
    without: list[tuple[Arrays, bool]]
    """The input without each part, and its presence."""

    def drops(
        self, box: RecordModel, sample: Sample, name: str, targets: Sequence[ExplanationTarget]
    ) -> list[np.ndarray]:
        """Evidence for each target that is lost with each part, [k]; negative where the part opposes it.

        Occlusion: Zeiler and Fergus (2014), https://arxiv.org/abs/1311.2901. Deletion: Li et al. (2016),
        https://arxiv.org/abs/1612.08220.
        """
        outputs = box.outputs([sample, *({**sample, name: hidden} for hidden in self.without)])
        evidence = [target.evidence(outputs) for target in targets]
        return [values[0] - values[1:] for values in evidence]


def parts_of(box: RecordModel, name: str, row: Mapping[str, Any], sample: Sample) -> Parts | None:
    """Parts of a present input; None for unknown kinds of arrays. ``row`` has the raw values."""
    arrays, _ = sample[name]
    reader = box.readers[name]
    if "pixels" in arrays:
        return image_parts(arrays)
    if "waveform" in arrays:
        return audio_parts(arrays)
    text = row[reader.column]
    if reader.preprocessor.modality == "text" and isinstance(text, str):
        return text_parts(text, lambda shorter: reader.read({reader.column: shorter}))
    return None


def image_parts(arrays: Arrays) -> Parts:
    """Square windows, each painted over with the mean colour of the image."""
    pixels = arrays["pixels"]  # [3 h w]
    color = pixels.mean(axis=(1, 2), keepdims=True).round().astype(pixels.dtype)
    spans: list[Span] = []
    without = []
    for top, bottom in _windows(pixels.shape[1], GRID):
        for left, right in _windows(pixels.shape[2], GRID):
            painted = pixels.copy()
            painted[:, top:bottom, left:right] = color
            spans.append((left, top, right, bottom))
            without.append(({**arrays, "pixels": painted}, True))
    return Parts("image", spans, without)


def audio_parts(arrays: Arrays) -> Parts:
    """Spans of the clip, each silenced."""
    spans: list[Span] = []
    without = []
    for start, end in _windows(len(arrays["waveform"]), TIMES):
        silenced = arrays["waveform"].copy()
        silenced[start:end] = 0
        spans.append((start, end))
        without.append(({**arrays, "waveform": silenced}, True))
    return Parts("audio", spans, without)


def text_parts(text: str, read: Callable[[str], tuple[Arrays, bool]]) -> Parts:
    """Words, each deleted; a text of one word is missing without it."""
    spans = [match.span() for match in _WORD.finditer(text)][:MAX_WORDS]
    return Parts("text", spans, [read(text[:start] + " " + text[end:]) for start, end in spans])


def _windows(length: int, number: int) -> list[tuple[int, int]]:
    """Overlapping by half, the last one ending at the end.

    >>> _windows(12, 2)
    [(0, 6), (3, 9), (6, 12)]
    """
    size = max(1, -(-length // number))
    starts = np.unique(np.linspace(0, length - size, 2 * number - 1).astype(int)).tolist()
    return [(start, start + size) for start in starts]


def mean_over_spans(spans: Sequence[Span], drops: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Mean drop of the windows that cover each pixel [h w] or sample [s].

    >>> mean_over_spans([(0, 2), (1, 3)], np.array([1.0, 3.0]), (3,))
    array([1., 2., 3.])
    """
    total, count = np.zeros(shape), np.zeros(shape)
    for span, drop in zip(spans, drops, strict=True):
        half = len(span) // 2
        place = tuple(slice(low, high) for low, high in zip(span[:half][::-1], span[half:][::-1], strict=True))
        total[place] += drop
        count[place] += 1
    return total / np.maximum(count, 1)
