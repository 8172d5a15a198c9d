"""Files of word vectors in every format that is read, written by the tests that read them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

WORDS = ("the", ",", "apple", "Red", "red", "don't", "crème", "pear", "1.5", "milk", "a", "of", "hills", "ripe", "Milk")
FORMATS = ("word2vec.bin", "word2vec newline.bin", "word2vec.txt", "fasttext.vec", "glove.txt")


def make_vectors(words: tuple[str, ...] = WORDS, dim: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """A vector for each word."""
    rng = np.random.default_rng(seed)
    return {word: rng.normal(size=dim).astype(np.float32) for word in words}


def write_vectors(path: Path, vectors: Mapping[str, np.ndarray], form: str) -> Path:
    """Writes them as the programs of that name do."""
    dim = len(next(iter(vectors.values())))
    content = b"" if form == "glove.txt" else f"{len(vectors)} {dim}\n".encode()
    end = {"word2vec.bin": b"", "fasttext.vec": b" \n"}.get(form, b"\n")  # fastText leaves a space at each line's end
    for word, vector in vectors.items():
        numbers = vector.tobytes() if form.endswith(".bin") else " ".join(map(repr, vector.tolist())).encode()
        content += word.encode() + b" " + numbers + end
    path.write_bytes(content)
    return path
