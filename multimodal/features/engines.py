"""Engines that run a frozen encoder over many values: torch, or onnxruntime where it is faster."""

import copy
import logging
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from encoders.base import Encoder, evaluating
from multimodal.runtime.files import write_atomically
from multimodal.runtime.threads import available_cores


class Engine(Protocol):
    """Arrays of a batch -> tokens [b l d] and mask [b l], as the encoder gives them in eval mode."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    def __call__(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Encodes a batch."""
        ...


class EagerEngine:
    """The encoder itself, on its device: what every other engine is compared with."""

    def __init__(self, encoder: Encoder, name: str = "torch eager") -> None:
        self.encoder, self.name = encoder, name
        first = next(encoder.parameters(), torch.zeros(0))
        self.device = first.device

    def __call__(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Encodes a batch, without gradients."""
        with torch.inference_mode(), evaluating(self.encoder):
            tokens, mask = self.encoder({name: tensor.to(self.device) for name, tensor in inputs.items()})
            return tokens, mask


def channels_last(encoder: Encoder) -> EagerEngine | None:
    """A copy whose images lie pixel by pixel, which CPUs convolve sooner; None where it convolves no images."""
    if not any(isinstance(module, nn.Conv2d) for module in encoder.modules()):
        return None
    copied = copy.deepcopy(encoder).to(memory_format=torch.channels_last)
    return EagerEngine(copied, "torch channels last")


OPSET = 18
_ERRORS_ONLY = 3  # onnxruntime's severity


class OnnxEngine:
    """A session of onnxruntime.

    Args:
        graph: content of an ONNX file with the tensors of the encoder's preprocessor as inputs.
    """

    name = "onnxruntime fp32"

    def __init__(self, graph: bytes) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = min(available_cores(), torch.get_num_threads())
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._inputs = [entry.name for entry in self._session.get_inputs()]

    def __call__(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Encodes a batch."""
        tokens, mask = self._session.run(["tokens", "mask"], {name: inputs[name].numpy() for name in self._inputs})
        return torch.from_numpy(tokens), torch.from_numpy(mask)


def kept_graph(folder: Path, key: str) -> Path:
    """File in which the graph of an encoder is kept.

    Args:
        key: of its architecture, weights and preprocessing.
    """
    return folder / "graphs" / f"{key}-torch{torch.__version__.partition('+')[0]}.onnx"


def onnx_engine(encoder: Encoder, example: dict[str, Tensor], kept: Path) -> OnnxEngine:
    """The encoder as a session, from the kept graph or from one that is made, and kept, now.

    The graph comes from torch's tracing exporter, in a fifth of the time that the one takes whose graphs are served
    (``export.to_onnx``). A trace knows nothing of what Python decides by sizes: compare it on batches of other sizes.

    Args:
        example: a batch of at least two values.

    Raises:
        Exception: whatever torch or onnxruntime says of an encoder that they cannot take.
    """
    if not kept.is_file():
        write_atomically(kept, _traced(encoder, example))
    return OnnxEngine(kept.read_bytes())


class _Positional(nn.Module):
    def __init__(self, encoder: Encoder, names: list[str]) -> None:
        super().__init__()
        self.encoder, self.names = encoder, names

    def forward(self, *tensors: Tensor) -> Any:
        return self.encoder(dict(zip(self.names, tensors, strict=True)))


def _traced(encoder: Encoder, example: dict[str, Tensor]) -> bytes:
    names = list(example)
    specs = {spec.name: spec for spec in encoder.preprocessor.tensors}
    axes = {
        name: {place: axis for place, axis in enumerate(specs[name].axes) if isinstance(axis, str)} for name in names
    }
    flat = _Positional(encoder, names)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with TemporaryDirectory() as folder, warnings.catch_warnings(), evaluating(flat), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's own age, and every size that Python looks at
            torch.onnx.export(
                flat,
                tuple(example[name] for name in names),
                file := Path(folder) / "encoder.onnx",
                input_names=names,
                output_names=["tokens", "mask"],
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
                verbose=False,
            )
            return file.read_bytes()
    finally:
        logger.setLevel(level)
