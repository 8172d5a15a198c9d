"""Tokens of values by content, in memory or on disk: what a frozen encoder said once."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from multimodal.runtime.files import write_atomically

Tokens = np.ndarray
"""float32 [l d], real tokens only."""


class TokenStore:
    """Tokens by the key of the value that they belong to.

    On disk it is a folder of shards, each an array ``.npy`` [t d] of the tokens of some values one after the other,
    and a ``.json`` that says where each value's are. The ``.json`` is written last: a shard without it does not
    exist. Shards are never changed, so that several processes may read and add.

    Args:
        folder: takes the shards; None keeps all in memory.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.failure: OSError | None = None
        """What kept it from writing; from then on it adds to its memory."""
        self._tokens: dict[str, Tokens] = {}
        for path in sorted(folder.glob("*.json")) if folder is not None else ():
            self._open(path)

    def __contains__(self, key: str) -> bool:
        return key in self._tokens

    def __getitem__(self, key: str) -> Tokens:
        return self._tokens[key]

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def num_bytes(self) -> int:
        """Of all tokens."""
        return sum(tokens.nbytes for tokens in self._tokens.values())

    def add(self, tokens: Mapping[str, Tokens]) -> None:
        """Keeps what a batch of values gave."""
        if self.folder is not None and tokens:
            try:
                self._write(self.folder, tokens)
                return
            except OSError as error:  # the disk is full, say: what is computed is still of use
                self.folder, self.failure = None, error
        self._tokens.update(tokens)

    def _write(self, folder: Path, tokens: Mapping[str, Tokens]) -> None:
        ends = np.cumsum([len(value) for value in tokens.values()])
        index = {key: [int(end) - len(tokens[key]), int(end)] for key, end in zip(tokens, ends, strict=True)}
        joined = np.concatenate(list(tokens.values()))
        name = hashlib.sha256("\n".join(tokens).encode()).hexdigest()[:32]
        write_atomically(folder / f"{name}.npy", _npy(joined))
        write_atomically(folder / f"{name}.json", json.dumps(index).encode())
        self._open(folder / f"{name}.json")

    def _open(self, path: Path) -> None:
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
            rows = np.load(path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
            whole = rows.ndim == 2 and max(end for _, end in index.values()) <= len(rows)
        except (OSError, ValueError):
            return  # damaged: as if it were not there, so that it is computed again
        if whole:
            self._tokens |= {key: rows[start:end] for key, (start, end) in index.items()}


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
