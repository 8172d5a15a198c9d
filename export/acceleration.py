"""Opt-in acceleration on CUDA: replayed graphs, and TensorRT. Never imports torch.

Both need few shapes: batches and lengths are rounded up to buckets, by records that repeat the first one and are
dropped again, and by padding that every mask hides.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort

from encoders.preprocessing import Preprocessor
from export.bundle import Bundle
from export.session import DeviceError, device_index, output_sizes, planned_device
from multimodal.inference.batching import rounded_length
from multimodal.runtime.files import open_cache

logger = logging.getLogger(__name__)

Acceleration = Literal["none", "cuda_graph", "tensorrt"]
ACCELERATIONS: tuple[Acceleration, ...] = ("none", "cuda_graph", "tensorrt")
MOST_RECORDS = 32
"""Largest batch of a TensorRT engine."""
_SIZES = 4
"""Lengths per octave: each shape keeps memory, and padding is computed, too."""
_LONGEST = {"text": 512, "audio": 160_000}
_OTHER_LONGEST = 1024


@dataclass(frozen=True)
class Buckets:
    """Shapes that the graph's inputs are rounded up to."""

    axes: dict[str, tuple[int | str, ...]]
    """Input of the graph -> its axes; a name is a size that varies."""
    longest: dict[str, int]
    """Name of an axis -> largest size."""

    @classmethod
    def of(cls, bundle: Bundle, preprocessors: Mapping[str, Preprocessor]) -> "Buckets":
        """Buckets of a bundle; the largest sizes are those that its preprocessors cut values to."""
        axes: dict[str, tuple[int | str, ...]] = {}
        longest = {"batch": MOST_RECORDS}
        for name, entry in bundle.inputs.items():
            for spec in entry.tensors:
                named = tuple(f"{name}.{a}" if isinstance(a, str) and a != "batch" else a for a in spec.axes)
                axes[f"{name}.{spec.name}"] = named
                varying = (axis for axis in named[1:] if isinstance(axis, str))
                longest |= dict.fromkeys(varying, _longest(entry.modality, preprocessors[name]))
            axes[f"{name}.present"] = ("batch",)
        return cls(axes, longest)

    def pad(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Feed in the shapes of its bucket."""
        return {name: self._padded(array, self.axes[name]) for name, array in feed.items()}

    def profile(self, records: int, share: float) -> str:
        """Shapes in TensorRT's notation, for a number of records at a share of the largest sizes.

        >>> Buckets({"t.ids": ("batch", "t.tokens")}, {"batch": 32, "t.tokens": 128}).profile(8, 0.25)
        't.ids:8x32'
        """
        shapes = []
        for name, axes in self.axes.items():
            sizes = [a if isinstance(a, int) else records if a == "batch" else self._share(a, share) for a in axes]
            shapes.append(f"{name}:{'x'.join(map(str, sizes))}")
        return ",".join(shapes)

    def _share(self, axis: str, share: float) -> int:
        return max(1, round(self.longest[axis] * share))

    def _padded(self, array: np.ndarray, axes: tuple[int | str, ...]) -> np.ndarray:
        for position, axis in enumerate(axes[1:], 1):
            if isinstance(axis, str):
                size = rounded_length(array.shape[position], self.longest[axis], sizes=_SIZES)
                padding = [(0, size - array.shape[position] if p == position else 0) for p in range(array.ndim)]
                array = np.pad(array, padding)
        rows = 1 << (len(array) - 1).bit_length()
        return np.concatenate([array, np.repeat(array[:1], rows - len(array), axis=0)])


def tensorrt_options(buckets: Buckets, cache: Path | None) -> dict[str, str]:
    """Options of TensorRT: one engine for all shapes up to the largest, cached if a cache folder is given."""
    caching = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache), "trt_timing_cache_enable": "1"}
    return {
        **({} if cache is None else caching),
        "trt_profile_min_shapes": buckets.profile(1, 0.0),
        "trt_profile_opt_shapes": buckets.profile(8, 0.25),
        "trt_profile_max_shapes": buckets.profile(MOST_RECORDS, 1.0),
    }


def session_options(acceleration: Acceleration, device: str, buckets: Buckets, bundle: Bundle) -> dict[str, Any]:
    """Arguments of ``open_session`` that an acceleration needs.

    Raises:
        ValueError: if there is no such acceleration.
        DeviceError: if there is no CUDA device for it.
    """
    if acceleration not in ACCELERATIONS:
        raise ValueError(f"acceleration is {acceleration!r}; give {', '.join(ACCELERATIONS)}")
    if acceleration == "none":
        return {}
    if planned_device(device) == "cpu":
        raise DeviceError(
            f"acceleration {acceleration!r} needs a CUDA device, and device {device!r} means the CPU here"
        )
    if acceleration == "cuda_graph":
        return {"cuda_graph": True}
    cache = open_cache("tensorrt", bundle.files[bundle.models["fp32"]].sha256[:16])
    return {"tensorrt": tensorrt_options(buckets, cache)}


def accelerated_run(
    acceleration: Acceleration, session: ort.InferenceSession, buckets: Buckets, device: str
) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]] | None:
    """Function that runs a session opened with ``session_options``; None for the plain run."""
    if acceleration == "none":
        return None
    if acceleration == "cuda_graph":
        return CudaGraphs(session, buckets, device_index(device) or 0)
    return lambda feed: _first_rows(run_bound(session, buckets.pad(feed)), len(next(iter(feed.values()))))


def _first_rows(outputs: Mapping[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
    return {name: array[:rows] for name, array in outputs.items()}


class CudaGraphs:
    """Runs a session by replaying one recorded graph per bucket; recordings stay in the device's memory.

    Args:
        session: opened with ``enable_cuda_graph``.
    """

    def __init__(self, session: ort.InferenceSession, buckets: Buckets, device: int) -> None:
        self._session, self._buckets, self._device = session, buckets, device
        self._sizes = output_sizes(session)
        varying = [name for name, sizes in self._sizes.items() if -1 in sizes]
        if varying:
            raise ValueError(
                f"acceleration 'cuda_graph' replays outputs of one size, and that of {varying[0]} varies with the "
                "record; take 'tensorrt' or 'none'"
            )
        self._recorded: dict[tuple[tuple[int, ...], ...], _Recorded] = {}
        self._lock = threading.Lock()  # the inputs' memory belongs to one caller at a time

    def __call__(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every output by name, without the padding records."""
        rows = len(next(iter(feed.values())))
        padded = self._buckets.pad(feed)
        shape = tuple(array.shape for array in padded.values())
        with self._lock:
            if shape not in self._recorded:
                self._recorded[shape] = self._record(padded)
            recorded = self._recorded[shape]
            for name, array in padded.items():
                recorded.inputs[name].update_inplace(np.ascontiguousarray(array))
            self._session.run_with_iobinding(recorded.binding, recorded.options)
            return {name: value.numpy()[:rows] for name, value in recorded.outputs.items()}

    def _record(self, feed: Mapping[str, np.ndarray]) -> "_Recorded":
        rows = len(next(iter(feed.values())))
        inputs = {n: ort.OrtValue.ortvalue_from_numpy(array, "cuda", self._device) for n, array in feed.items()}
        outputs = {
            name: ort.OrtValue.ortvalue_from_shape_and_type((rows, *sizes), np.float32, "cuda", self._device)
            for name, sizes in self._sizes.items()
        }
        binding, options = self._session.io_binding(), ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(len(self._recorded) + 1))
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        return _Recorded(inputs, outputs, binding, options)


@dataclass(frozen=True)
class _Recorded:
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    binding: Any
    options: Any


def run_bound(session: ort.InferenceSession, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every output by name; on CUDA without a copy between buffers that onnxruntime makes for itself."""
    binding, names = session.io_binding(), [output.name for output in session.get_outputs()]
    for name, array in feed.items():
        binding.bind_cpu_input(name, array)
    for name in names:
        binding.bind_output(name, "cpu")
    session.run_with_iobinding(binding)
    return dict(zip(names, binding.copy_outputs_to_cpu(), strict=True))


def _longest(modality: str, preprocessor: Preprocessor) -> int:
    tokens, seconds = getattr(preprocessor, "max_tokens", None), getattr(preprocessor, "max_seconds", None)
    if isinstance(tokens, int):
        return tokens
    if isinstance(seconds, int | float):
        return int(seconds * getattr(preprocessor, "sample_rate", 16_000))
    return _LONGEST.get(modality, _OTHER_LONGEST)
