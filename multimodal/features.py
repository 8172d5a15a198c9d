"""Feature extraction: a frozen encoder reads every value once, and training goes on from its tokens."""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from encoders.base import Encoder
from encoders.preprocessing import Arrays, TensorSpec, UnreadableValueError, stack_arrays
from fusion.pooling import masked_mean
from multimodal.data import worker_options
from multimodal.files import sha256_of
from multimodal.media import media_path
from multimodal.modes import evaluating
from multimodal.progress import Say, format_seconds
from multimodal.records import InputReader, Records, is_missing
from multimodal.token_store import TokenStore

FORMAT = 1
"""Of what is kept; another number finds nothing of the versions before."""
CHUNK = 1024
"""Values between two writes; within one they are sorted by size, so that little is padded."""
BATCH_SIZE = 32
TOKENS, MASK = "tokens", "mask"
"""Tensors that stand in the place of an encoder's inputs."""


class TokenArrays:
    """Stacks tokens, in the place of the preprocessor of an input whose encoder is frozen.

    Args:
        modality: of the input.
        width: of the tokens.
    """

    reads_paths = True

    def __init__(self, modality: str, width: int) -> None:
        self.modality, self.width = modality, width
        self.tensors: tuple[TensorSpec, ...] = (
            TensorSpec(TOKENS, "float32", ("batch", "tokens", width)),
            TensorSpec(MASK, "bool", ("batch", "tokens")),
        )

    def __call__(self, raw: np.ndarray) -> Arrays:
        """Tokens [l d] as they are."""
        return {TOKENS: raw, MASK: np.ones(len(raw), dtype=bool)}

    def blank(self) -> Arrays:
        """One token that is not real."""
        return {TOKENS: np.zeros((1, self.width), dtype=np.float32), MASK: np.zeros(1, dtype=bool)}

    def stack(self, samples: Sequence[Arrays]) -> Arrays:
        """Tokens [b l d] and their mask [b l], padded to the longest."""
        return stack_arrays(samples, self.tensors, {TOKENS: 0.0, MASK: False})

    def to_config(self) -> dict[str, Any]:
        """Nothing that is ever saved."""
        raise TypeError("kept tokens belong to a training run and are not exported; export the encoder's preprocessor")


@dataclass(frozen=True)
class FeatureReader(InputReader):
    """Reads an input's tokens from a store, by the content of its value."""

    values: InputReader
    """Reads the value itself."""
    store: TokenStore
    keys: Mapping[tuple[Path | None, str], str]
    """(root, what a cell says) -> key of its content, as it was when training began."""

    def read(
        self, row: Mapping[str, Any], root: Path | None = None, allow_outside: bool = False, augment: Any = None
    ) -> tuple[Arrays, bool]:
        """Tokens of this input, and whether the record has it; never augmented."""
        value = row.get(self.column)
        known = self.keys.get((root, value)) if isinstance(value, str) else None
        key = content_key(self.values, row, root, allow_outside) if known is None else known
        if key is None:
            return self.preprocessor.blank(), False
        if key not in self.store:
            self.values.read(row, root, allow_outside)  # says why it could not be encoded
            raise UnreadableValueError(f"{self.column} has changed since training began; start it again")
        return self.preprocessor(self.store[key]), True


def content_key(reader: InputReader, row: Mapping[str, Any], root: Path | None, allow_outside: bool) -> str | None:
    """Hex digest of a value's content, whatever its place; None where it is missing.

    Raises:
        UnreadableValueError: if it is a file that cannot be read.
    """
    value = row.get(reader.column)
    if is_missing(value):
        return None
    if isinstance(value, str | Path) and reader.reads_paths:
        path = media_path(value, root, allow_outside=allow_outside)
        try:
            return sha256_of(path)
        except OSError as error:
            raise UnreadableValueError(f"{str(value)!r} cannot be read ({error.strerror})") from error
    if isinstance(value, bytes | str):
        return hashlib.sha256(value if isinstance(value, bytes) else value.encode()).hexdigest()
    digest = hashlib.sha256()
    for name, array in sorted(reader.preprocessor(value).items()):
        digest.update(f"{name} {array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def encoder_key(encoder: Encoder, *, pooled: bool) -> str:
    """Hex digest of all that an encoder's tokens depend on: architecture, weights, preprocessing."""
    description = [FORMAT, encoder.name, encoder.architecture(), encoder.preprocessor.to_config(), pooled]
    digest = hashlib.sha256(json.dumps(description, sort_keys=True, default=str).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def feature_reader(
    reader: InputReader,
    encoder: Encoder,
    tables: Iterable[Records],
    *,
    pooled: bool,
    cache: Path | None,
    workers: int = 0,
    say: Say,
    compute: bool = True,
) -> FeatureReader:
    """A reader of tokens in the place of a reader of values; encodes first what no run before has kept.

    A value that cannot be read is left out here, and named when its record is used.

    Args:
        pooled: keeps the mean token alone, which is all that some fusions use.
        cache: folder that keeps tokens between runs; None keeps them in memory.
        workers: processes that decode.
        compute: False where another process encodes: what it kept is only opened.
    """
    store = TokenStore(None if cache is None else cache / "tokens" / encoder_key(encoder, pooled=pooled))
    began, before = time.monotonic(), len(store)
    values = _Values(reader, list(tables), store)
    if compute:
        for chunk in _chunks(values, workers):
            store.add(_encode(encoder, chunk, pooled=pooled))
    new = len(store) - before
    place = "in memory" if store.folder is None else f"in {store.folder}"
    took = f"{new} new in {format_seconds(time.monotonic() - began)}" if new else "none new"
    say(f"{reader.name}: frozen; tokens of {len(store)} values ({took}), {store.num_bytes / 1e6:.1f} MB {place}")
    arrays = TokenArrays(encoder.modality, encoder.embed_dim)
    return FeatureReader(reader.name, reader.column, arrays, reader, store, values.keys)


class _Values(Dataset[tuple[str, Arrays] | None]):
    """Values that the store lacks, each content once, preprocessed."""

    def __init__(self, reader: InputReader, tables: Sequence[Records], store: TokenStore) -> None:
        self.reader = reader
        self.places: list[tuple[str, Records, Mapping[str, Any]]] = []
        self.keys: dict[tuple[Path | None, str], str] = {}
        seen: set[str] = set()
        for records in tables:
            for row in records.rows:
                key = self._key(row, records)
                if key is not None and key not in seen:
                    seen.add(key)
                    if key not in store:
                        self.places.append((key, records, row))

    def _key(self, row: Mapping[str, Any], records: Records) -> str | None:
        value = row.get(self.reader.column)
        place = (records.root, value) if isinstance(value, str) else None
        if place in self.keys:
            return self.keys[place]
        try:
            key = content_key(self.reader, row, records.root, records.allow_outside)
        except UnreadableValueError:
            return None
        if place is not None and key is not None:
            self.keys[place] = key
        return key

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[str, Arrays] | None:
        key, records, row = self.places[index]
        try:
            return key, self.reader.read(row, records.root, records.allow_outside)[0]
        except UnreadableValueError:
            return None


def _chunks(values: _Values, workers: int) -> Iterator[list[tuple[str, Arrays]]]:
    options = worker_options(workers if len(values) > CHUNK else 0)  # few values are read before a process starts
    loader = DataLoader(values, batch_size=BATCH_SIZE, collate_fn=list, **options)
    chunk: list[tuple[str, Arrays]] = []
    for batch in loader:
        chunk += [sample for sample in batch if sample is not None]
        if len(chunk) >= CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


@torch.inference_mode()
def _encode(encoder: Encoder, chunk: list[tuple[str, Arrays]], *, pooled: bool) -> dict[str, np.ndarray]:
    device = next(encoder.parameters()).device
    chunk = sorted(chunk, key=lambda sample: (sum(array.size for array in sample[1].values()), sample[0]))
    kept = {}
    with evaluating(encoder):
        for start in range(0, len(chunk), BATCH_SIZE):
            keys, samples = zip(*chunk[start : start + BATCH_SIZE], strict=True)
            arrays = encoder.preprocessor.stack(samples)
            tokens, mask = encoder({name: torch.from_numpy(array).to(device) for name, array in arrays.items()})
            if pooled:
                tokens, mask = masked_mean(tokens, mask)[:, None], mask[:, :1] | True
            for key, row, real in zip(keys, tokens.float().cpu(), mask.cpu(), strict=True):
                kept[key] = row[real].numpy()
    return kept
