"""A module over a dict of tensors as one ONNX file, for the checks of contracts."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from encoders.base import Encoder, tensors_of
from encoders.onnx.encoder import OnnxEncoder
from encoders.preprocessing import Arrays

OPSET = 20


def export_onnx(encoder: Encoder, batch: Arrays) -> bytes:
    """The encoder as one ONNX file, the axes that its preprocessor names dynamic; ``batch`` is an example of two."""
    if isinstance(encoder, OnnxEncoder):
        return encoder.content
    axes = {spec.name: spec.axes for spec in encoder.preprocessor.tensors}
    return export_graph(encoder, tensors_of(encoder, batch), axes, ["tokens", "mask"])


def export_graph(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    axes: Mapping[str, tuple[int | str, ...]],
    outputs: list[str],
    call: Callable[[dict[str, Tensor]], Any] | None = None,
) -> bytes:
    """A module over a dict of tensors as one ONNX file; axes with a name are dynamic.

    Args:
        tensors: an example.
        axes: tensor -> its axes, in the order of the graph's inputs.
        call: what runs the module on such a dict; None calls it.
    """
    dims = {axis: torch.export.Dim(axis) for named in axes.values() for axis in named if isinstance(axis, str)}
    dynamic = tuple({i: dims[a] for i, a in enumerate(named) if isinstance(a, str)} for named in axes.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own: deprecations inside torch and onnxscript
        program = torch.onnx.export(
            _Flat(module, list(axes), call).eval(),
            tuple(tensors[name] for name in axes),
            input_names=list(axes),
            output_names=outputs,
            dynamic_shapes=(dynamic,),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return program.model_proto.SerializeToString()


class _Flat(nn.Module):
    """A module that takes its tensors one by one, in a given order: what torch.onnx.export wants."""

    def __init__(
        self, module: nn.Module, names: Sequence[str], call: Callable[[dict[str, Tensor]], Any] | None
    ) -> None:
        super().__init__()
        self.module, self.names, self.call = module, names, call

    def forward(self, *tensors: Tensor) -> Any:
        run = self.module if self.call is None else self.call
        return run(dict(zip(self.names, tensors, strict=True)))
