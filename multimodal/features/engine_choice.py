"""Choice of the engine for the rest of a table: the fastest that agrees with torch, where choosing pays."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from encoders.base import Encoder
from encoders.onnx.encoder import OnnxEncoder
from multimodal.features.engines import EagerEngine, Engine, channels_last, kept_graph, onnx_engine

logger = logging.getLogger(__name__)

LARGEST_DIFFERENCE = 1e-4
"""Of any token to torch eager's, absolute."""
WORTH_SECONDS = 4.0
"""Of torch eager's time for all values: below it no other engine is tried, as a graph takes one or two to make."""
FEWEST_VALUES = 256
"""Below it nothing is measured."""
MEASURED = 8
"""Values of a batch that engines are measured on, so that measuring costs little beside the whole."""
LEAST_GAIN = 1.1
"""Of an engine that is not torch eager: below it its small differences are not worth having."""

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class EngineChoice:
    """An engine, and how it was measured."""

    engine: Engine
    gain: float = 1.0
    """How much faster than torch eager, on one real batch."""
    difference: float = 0.0
    """The largest to torch eager."""

    def __str__(self) -> str:
        if isinstance(self.engine, EagerEngine) and self.gain == 1.0:
            return self.engine.name
        return f"{self.engine.name} ({self.gain:.1f}x of torch eager, max difference {self.difference:.0e})"


def candidates(encoder: Encoder, example: Batch, cache: Path, key: str) -> Iterator[tuple[str, Callable[[], Engine]]]:
    """Engines that could be faster than torch eager, each with its builder; the cheapest to build first."""
    copied = channels_last(encoder)
    if copied is not None:
        yield copied.name, lambda: copied
    yield "onnxruntime", partial(onnx_engine, encoder, example, kept_graph(cache, key))


def choose(eager: EagerEngine, batches: Sequence[Batch], *, values: int, cache: Path | None, key: str) -> EngineChoice:
    """Measures the engines on parts of real batches.

    Nothing but torch eager is taken on a GPU, for few values, or without a cache: what is not kept must come out the
    same when it is computed again.

    Args:
        batches: the first is timed, and those of other sizes are compared, too.
        values: how many have to be encoded.
        cache: folder of graphs.
        key: of the encoder.
    """
    best = EngineChoice(eager)
    parts = {_sizes(batch): {name: tensor[:MEASURED] for name, tensor in batch.items()} for batch in reversed(batches)}
    first = parts[_sizes(batches[0])]
    count = len(next(iter(first.values())))
    if cache is None or eager.device.type != "cpu" or values < FEWEST_VALUES or count < 2:
        return best
    expected = {sizes: eager(part) for sizes, part in parts.items()}  # sets up kernels, too
    seconds = _seconds(eager, first)
    if seconds / count * values < WORTH_SECONDS:
        return best
    for name, build in candidates(eager.encoder, first, cache, key):
        try:
            engine = build()
            difference = max(_difference(engine(part), expected[sizes]) for sizes, part in parts.items())
        except Exception as error:  # torch and onnxruntime raise what they like; torch eager can do it
            logger.debug("%s cannot run by %s: %s", eager.encoder.name, name, str(error).strip().partition("\n")[0])
            continue
        gain = seconds / _seconds(engine, first)
        logger.debug("%s by %s: %.2fx of torch eager, max difference %.0e", eager.encoder.name, name, gain, difference)
        if difference <= LARGEST_DIFFERENCE and gain > max(LEAST_GAIN, best.gain):
            best = EngineChoice(engine, gain, difference)
    return best


def _seconds(engine: Engine, batch: Batch) -> float:
    began = time.perf_counter()
    engine(batch)
    return time.perf_counter() - began


def _difference(said: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> float:
    """Largest of the real tokens; infinite where the masks or shapes differ."""
    (tokens, mask), (wanted, real) = said, expected
    if tokens.shape != wanted.shape or not torch.equal(mask.cpu(), real.cpu()):
        return float("inf")
    gaps = (tokens.cpu() - wanted.cpu()).abs().nan_to_num(nan=float("inf"))[real.cpu()]
    return float(gaps.max()) if gaps.numel() else 0.0


class EngineChooser:
    """The engine of each stretch of a table: chosen on the first, compared again where values get other sizes.

    Args:
        values, cache, key: as ``choose`` takes them.
    """

    def __init__(self, encoder: Encoder, *, values: int, cache: Path | None, key: str) -> None:
        self._eager = EagerEngine(encoder, "onnxruntime") if isinstance(encoder, OnnxEncoder) else EagerEngine(encoder)
        self._values, self._cache, self._key = values, cache, key
        self._compared: set[tuple[torch.Size, ...]] = set()
        self.choice: EngineChoice | None = None

    def engine(self, batches: Sequence[Batch]) -> Engine:
        """For these batches, which are sorted by size."""
        ends = [batches[len(batches) // 2], batches[0], batches[-1]]
        if self.choice is None:
            self.choice = choose(self._eager, ends, values=self._values, cache=self._cache, key=self._key)
        elif not isinstance(self.choice.engine, EagerEngine):
            new = [batch for batch in ends if _sizes(batch) not in self._compared]
            if new and not agrees(self.choice.engine, self._eager, new):
                self.choice = EngineChoice(self._eager)
        self._compared |= {_sizes(batch) for batch in ends}
        return self.choice.engine

    def settle_for_eager(self) -> bool:
        """Takes no other engine than torch eager from now on, as what is not kept must come out the same when it is
        computed again; says whether another one was taken."""
        was_other = self.choice is not None and self.choice.engine is not self._eager
        self.choice = EngineChoice(self._eager)
        return was_other


def agrees(engine: Engine, eager: Engine, batches: Sequence[Batch]) -> bool:
    """True where it gives the tokens of torch eager for these batches."""
    try:
        return all(_difference(engine(batch), eager(batch)) <= LARGEST_DIFFERENCE for batch in batches)
    except Exception as error:
        logger.debug("%s cannot run these sizes: %s", engine.name, error)
        return False


def _sizes(batch: Batch) -> tuple[torch.Size, ...]:
    return tuple(tensor.shape[1:] for tensor in batch.values())
