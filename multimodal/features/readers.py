"""Feature extraction: a frozen encoder reads every value once, and training reads its tokens."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from encoders.base import Encoder
from encoders.preprocessing import Arrays, TensorSpec, UnreadableValueError, stack_arrays
from fusion.base import masked_mean
from multimodal.features.engine_choice import EngineChooser
from multimodal.features.token_store import TokenStore
from multimodal.features.views import Views
from multimodal.records import InputReader, Records, is_missing
from multimodal.records.media import Outside, media_path, quote
from multimodal.runtime.files import sha256_of
from multimodal.runtime.progress import format_seconds
from multimodal.runtime.runtime import Runtime
from multimodal.runtime.workers import in_brief, read_ahead

logger = logging.getLogger(__name__)

FORMAT = 1
"""Of what is kept; another number finds nothing of the versions before."""
CHUNK = 1024
"""Values between two writes; within one they are sorted by size, so that little is padded."""
BATCH_SIZE = 32
TOKENS, MASK = "tokens", "mask"
"""Tensors that stand in the place of an encoder's inputs."""


class TokenPreprocessor:
    """Stacks tokens, in the place of the preprocessor of an input whose encoder is frozen.

    Args:
        modality: of the input.
        dim: of the tokens.
    """

    reads_paths = True

    def __init__(self, modality: str, dim: int) -> None:
        self.modality, self.dim = modality, dim
        self.tensors: tuple[TensorSpec, ...] = (
            TensorSpec(TOKENS, "float32", ("batch", "tokens", dim)),
            TensorSpec(MASK, "bool", ("batch", "tokens")),
        )

    def __call__(self, raw: np.ndarray) -> Arrays:
        """Tokens [l d] as they are."""
        # still a view into the file, without what a memmap adds to every slice
        return {TOKENS: np.asarray(raw), MASK: np.ones(len(raw), dtype=bool)}

    def blank(self) -> Arrays:
        """One token that is not real."""
        return {TOKENS: np.zeros((1, self.dim), dtype=np.float32), MASK: np.zeros(1, dtype=bool)}

    def stack(self, samples: Sequence[Arrays]) -> Arrays:
        """Tokens [b l d] and their mask [b l], padded to the longest."""
        if samples and all(len(sample[MASK]) == 1 for sample in samples):  # mean tokens: nothing is padded
            return {name: np.stack([sample[name] for sample in samples]) for name in (TOKENS, MASK)}
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
    views: Views
    """Of the training values."""

    def read(
        self, row: Mapping[str, Any], root: Path | None = None, allow_outside: Outside = False, augment: Any = None
    ) -> tuple[Arrays, bool]:
        """Tokens of this input, and whether the record has it.

        Args:
            augment: content key -> key of one of its views.
        """
        value = row.get(self.column)
        known = self.keys.get((root, value)) if isinstance(value, str) else None
        key = content_key(self.values, row, root, allow_outside) if known is None else known
        if key is None:
            return self.preprocessor.blank(), False
        key = key if augment is None else augment(key)
        if key not in self.store:
            self.values.read(row, root, allow_outside)  # says why it could not be encoded
            raise UnreadableValueError(f"{self.column} has changed since training began; start it again")
        return self.preprocessor(self.store[key]), True


def content_key(reader: InputReader, row: Mapping[str, Any], root: Path | None, allow_outside: Outside) -> str | None:
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
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy())  # a counter has no axis
    return digest.hexdigest()[:32]


class TrainingViews(NamedTuple):
    """Tables whose values are read in several views."""

    views: Views = Views()
    tables: Sequence[Records] = ()


def feature_reader(
    reader: InputReader,
    encoder: Encoder,
    tables: Iterable[Records],
    *,
    pooled: bool,
    runtime: Runtime,
    training: TrainingViews | None = None,
) -> FeatureReader:
    """A reader of tokens in the place of a reader of values; encodes first what no run before has kept.

    A value that cannot be read is left out here, and named when its record is used.

    Args:
        pooled: keeps the mean token alone, which is all that some fusions use.
        runtime: of which ``cache`` and ``workers`` count here.
        training: views of the values of some of the tables; None: all values as they are.
    """
    key = encoder_key(encoder, pooled=pooled)
    store = TokenStore(None if runtime.cache is None else runtime.cache / "tokens" / key)
    began, before = time.monotonic(), len(store)
    training = TrainingViews() if training is None else training
    values = _Values(reader, list(tables), store, training)
    chooser = EngineChooser(encoder, values=len(values), cache=runtime.cache, key=key)
    for chunk in _chunks(values, runtime.workers):
        store.add(_encode(encoder, chooser, chunk, pooled=pooled))
        if store.failure is not None and chooser.settle_for_eager():
            store.add(_encode(encoder, chooser, chunk, pooled=pooled))
    if chooser.choice is not None:
        logger.info(f"{reader.name}: encoded by {chooser.choice}")
    if store.failure is not None:
        logger.warning(f"{reader.name}: tokens are kept in memory alone from here on: {store.failure}")
    new = len(store) - before
    place = "in memory" if store.folder is None else f"in {store.folder}"
    took = f"{new} new in {format_seconds(time.monotonic() - began)}" if new else "none new"
    kind = "values" if training.views.count == 1 else f"values and their {training.views.count} views"
    logger.info(
        f"{reader.name}: frozen; tokens of {len(store)} {kind} ({took}), {store.num_bytes / 1e6:.1f} MB {place}"
    )
    arrays = TokenPreprocessor(encoder.modality, encoder.embed_dim)
    return FeatureReader(reader.name, reader.column, arrays, reader, store, values.keys, training.views)


class _Place(NamedTuple):
    """Where a value is that has to be encoded."""

    key: str
    records: Records
    row: Mapping[str, Any]
    change: Callable[[Any], Any] | None


class _Values:
    """Values that the store does not have, each content once (of training tables in all its views), preprocessed."""

    def __init__(
        self,
        reader: InputReader,
        tables: Sequence[Records],
        store: TokenStore,
        training: TrainingViews,
    ) -> None:
        self.reader = reader
        self.places: list[_Place] = []
        self.keys: dict[tuple[Path | None, str], str] = {}
        views, seen = training.views, set[str]()
        for records in tables:
            count = views.count if any(records is table for table in training.tables) else 1
            for row in records.rows:
                content = self._key(row, records)
                for view in range(count if content is not None else 0):
                    assert content is not None
                    key = views.key(content, view)
                    if key not in seen:
                        seen.add(key)
                        if key not in store:
                            self.places.append(_Place(key, records, row, views.change(content, view)))

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
        key, records, row, change = self.places[index]
        try:
            return key, self.reader.read(row, records.root, records.allow_outside, augment=change)[0]
        except UnreadableValueError:
            return None

    def read(self, indices: Sequence[int]) -> list[tuple[str, Arrays] | None]:
        """Several of them."""
        return [self[index] for index in indices]

    def place(self, indices: Sequence[int]) -> str:
        """What their cells say, for messages."""
        cells = [self.places[index].row.get(self.reader.column) for index in indices]
        return in_brief([f"{self.reader.column} {quote(cell)}" for cell in cells])


def _chunks(values: _Values, workers: int) -> Iterator[list[tuple[str, Arrays]]]:
    if len(values) <= CHUNK:  # few are read before a process starts
        with ThreadPoolExecutor(1 + workers) as threads:
            few = [sample for sample in threads.map(values.__getitem__, range(len(values))) if sample is not None]
        if few:
            yield few
        return
    batches = [range(start, min(start + BATCH_SIZE, len(values))) for start in range(0, len(values), BATCH_SIZE)]
    chunk: list[tuple[str, Arrays]] = []
    for batch in read_ahead(values.read, batches, workers=workers, place=values.place):
        chunk += [sample for sample in batch if sample is not None]
        if len(chunk) >= CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _encode(
    encoder: Encoder, chooser: EngineChooser, chunk: list[tuple[str, Arrays]], *, pooled: bool
) -> dict[str, np.ndarray]:
    chunk = sorted(chunk, key=lambda sample: (sum(array.size for array in sample[1].values()), sample[0]))
    parts = [chunk[start : start + BATCH_SIZE] for start in range(0, len(chunk), BATCH_SIZE)]
    stacked = [encoder.preprocessor.stack([arrays for _, arrays in part]) for part in parts]
    batches = [{name: torch.from_numpy(array) for name, array in arrays.items()} for arrays in stacked]
    engine, kept = chooser.engine(batches), dict[str, np.ndarray]()
    for part, batch in zip(parts, batches, strict=True):
        tokens, mask = engine(batch)
        if pooled:
            tokens, mask = masked_mean(tokens, mask)[:, None], mask[:, :1] | True
        for (key, _), row, real in zip(part, tokens.float().cpu(), mask.cpu(), strict=True):
            kept[key] = row[real].numpy()
    return kept
