"""Synthetic values for every input, to trace and compare a graph with. Never imports torch."""

import json
from collections.abc import Sequence
from typing import Literal

import numpy as np

from encoders.preprocessing import Arrays, Preprocessor
from encoders.preprocessing.text import TOKENIZER_FILE
from encoders.preprocessing.words import VOCABULARY_FILE

Length = Literal["short", "middle", "long"]
"""Of a text or a clip: the shortest there is, an ordinary one of random length, the longest that is kept."""

_LONG_WORDS = 1_000
_OTHER_SIZES = {"short": 1, "long": 64}


def synthetic_samples(preprocessor: Preprocessor, rng: np.random.Generator, lengths: Sequence[Length]) -> list[Arrays]:
    """Preprocessed samples, one per length: coloured blocks, words of the tokenizer, noise; equal seeds, equal values.

    An input of another modality gets random arrays of the shapes that its preprocessor declares.
    """
    makers = {"image": _image, "text": _text, "audio": _audio}
    maker = makers.get(preprocessor.modality, _arrays)
    return [maker(preprocessor, rng, length) for length in lengths]


def _image(preprocessor: Preprocessor, rng: np.random.Generator, length: Length) -> Arrays:
    """Coarse blocks of colour, so that more than their mean survives resizing."""
    blocks = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return preprocessor(blocks.repeat(16, axis=0).repeat(16, axis=1))


def _text(preprocessor: Preprocessor, rng: np.random.Generator, length: Length) -> Arrays:
    if length == "short":
        return preprocessor("a")
    count = _LONG_WORDS if length == "long" else int(rng.integers(3, 13))
    return preprocessor(" ".join(rng.choice(_vocabulary(preprocessor), count)))


def _vocabulary(preprocessor: Preprocessor) -> list[str]:
    """Words that the tokenizer knows (to a table of words all others are one); else the letters."""
    assets: dict[str, str] = getattr(preprocessor, "assets", dict)()
    entries = json.loads(assets.get(TOKENIZER_FILE, "{}")).get("model", {}).get("vocab", [])
    entries = entries or assets.get(VOCABULARY_FILE, "").split("\n")
    pieces = (entry if isinstance(entry, str) else entry[0] for entry in entries)  # Unigram has [piece, score]
    words = sorted({piece for piece in pieces if piece.isascii() and piece.isalpha()})
    return words if words else list("abcdefghijklmnopqrstuvwxyz")


def _audio(preprocessor: Preprocessor, rng: np.random.Generator, length: Length) -> Arrays:
    rate = int(getattr(preprocessor, "sample_rate", 16_000))
    ordinary = float(rng.uniform(0.3, 1.0))
    seconds = {"short": 0.0, "middle": ordinary, "long": float(getattr(preprocessor, "max_seconds", 10.0))}[length]
    samples = max(1, round(seconds * rate))
    return preprocessor((rng.normal(0.0, 0.1, samples).astype(np.float32), rate))


def _arrays(preprocessor: Preprocessor, rng: np.random.Generator, length: Length) -> Arrays:
    blank = preprocessor.blank()
    sizes: dict[str, int] = {}
    arrays = {}
    for spec in preprocessor.tensors:
        for axis in spec.axes[1:]:
            if isinstance(axis, str) and axis not in sizes:
                sizes[axis] = _OTHER_SIZES.get(length) or int(rng.integers(5, 20))
        shape = tuple(sizes[axis] if isinstance(axis, str) else axis for axis in spec.axes[1:])
        arrays[spec.name] = _values(blank[spec.name], spec.dtype, shape, rng)
    return arrays


def _values(blank: np.ndarray, dtype: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    kind = np.dtype(dtype).kind
    if kind == "f":
        return rng.normal(size=shape).astype(dtype)
    if kind == "b":
        return np.ones(shape, dtype)
    if dtype == "uint8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return np.resize(blank, shape).astype(dtype)  # ids: only those of the blank are known to exist
