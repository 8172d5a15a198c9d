"""Trained model as one ONNX file: flat named inputs, dynamic named axes, no trace of this machine."""

import itertools
import warnings
from collections.abc import Mapping

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.onnx import ONNXProgram

from encoders.base import evaluating
from encoders.onnx.encoder import OnnxEncoder
from encoders.onnx.graph import at_opset, opset_of, prefixed, rename_values, value_names
from encoders.preprocessing import Arrays, TensorSpec
from export.graph import strip
from export.samples import synthetic_samples
from multimodal.decoding import EMBEDDING
from multimodal.model import MultimodalModel
from multimodal.runtime.files import require_temporary_folder

MAX_BYTES = 1_500_000_000
"""Protobuf ends at 2 GB, and onnxruntime needs room for what it folds."""
OPSETS = range(18, 23)
"""18 is the first that the exporter writes; from 23 on onnxruntime's CPU Attention fails on broadcast masks."""

_PRESENT = TensorSpec("present", "bool", ("batch",))
_SAFE = "output."  # traced values have no dot in their names


class OnnxError(RuntimeError):
    """Graph that could not be exported, or not as requested."""


class _FlatModel(nn.Module):
    """Model with positional tensors in and out, for the exporter."""

    def __init__(self, model: MultimodalModel, *, embedding: bool) -> None:
        super().__init__()
        self.model = model
        self.slots = [(name, spec.name) for name, spec in traced_inputs(model)]
        self.embedding = embedding

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs: dict[str, dict[str, Tensor]] = {name: {} for name in self.model.input_names}
        for (name, tensor_name), tensor in zip(self.slots, tensors, strict=True):
            inputs[name][tensor_name] = tensor
        result = self.model(inputs)
        outputs = tuple(result.outputs.values())
        return (*outputs, result.embedding) if self.embedding else outputs


def graph_inputs(model: MultimodalModel) -> list[tuple[str, TensorSpec]]:
    """(input, tensor) in the order of the graph's inputs ``<input>.<tensor>``; ``present`` ends each input."""
    return [
        (name, spec) for name in model.input_names for spec in (*model.encoder(name).preprocessor.tensors, _PRESENT)
    ]


def traced_inputs(model: MultimodalModel) -> list[tuple[str, TensorSpec]]:
    """``graph_inputs`` with the tokens of encoders that are ONNX graphs already in the place of their tensors."""
    specs = {}
    for name in model.input_names:
        encoder = model.encoder(name)
        is_graph = isinstance(encoder, OnnxEncoder)
        specs[name] = _token_specs(encoder.embed_dim) if is_graph else encoder.preprocessor.tensors
    return [(name, spec) for name in model.input_names for spec in (*specs[name], _PRESENT)]


def _token_specs(dim: int) -> tuple[TensorSpec, ...]:
    return TensorSpec("tokens", "float32", ("batch", "tokens", dim)), TensorSpec("mask", "bool", ("batch", "tokens"))


def to_onnx(model: MultimodalModel, *, opset: int = 20, embedding: bool = False) -> bytes:
    """Content of one ONNX file with the model in eval mode.

    Inputs are ``<input>.<tensor>`` for every tensor that the input's preprocessor declares, and
    ``<input>.present``, bool [b]; outputs are ``<task>``, raw. Axes are named ``batch`` and ``<input>_<axis>``.
    Parameters of losses are left out. Equal models give equal bytes.

    Args:
        model: on the CPU.
        embedding: adds the output ``embedding``, the fused vector at length 1.

    Raises:
        ValueError: if the opset is not supported, the model is too large for one file, or a task is called
            ``embedding`` while that output is asked for.
        OnnxError: if torch cannot export it, or made a graph with other inputs or outputs.
    """
    if opset not in OPSETS:
        raise ValueError(f"opset is {opset}; give {OPSETS[0]} to {OPSETS[-1]}, 20 if in doubt")
    if embedding and EMBEDDING in model.heads:
        raise ValueError(
            f"a task is called {EMBEDDING!r}, and so is the output for the fused vector; rename the task, or export "
            "without embedding=True"
        )
    _check_size(model)
    require_temporary_folder()
    outputs = [*model.heads, *([EMBEDDING] if embedding else [])]
    traced = traced_inputs(model)
    program = _trace(_FlatModel(model, embedding=embedding), traced, [_SAFE + name for name in outputs], opset)
    graph = program.model_proto
    taken = value_names(graph.graph)
    give_way = {name: f"{name}.inner" for name in outputs if name in taken}  # values inside, such as an ``embedding``
    rename_values(graph.graph, give_way | {_SAFE + name: name for name in outputs})
    _check_graph(graph, traced, outputs, opset)
    _splice_encoders(graph, model, opset)
    strip(graph)
    content = graph.SerializeToString(deterministic=True)
    onnx.checker.check_model(content)
    return content


def _trace(flat: _FlatModel, slots: list[tuple[str, TensorSpec]], outputs: list[str], opset: int) -> ONNXProgram:
    with evaluating(flat), warnings.catch_warnings(), torch.no_grad():
        # every tensor after the first of an axis repeats that axis' name, on purpose
        warnings.filterwarnings("ignore", message="# The axis name: ", category=UserWarning)
        try:
            program = torch.onnx.export(
                flat,
                _example(flat.model, slots),
                input_names=[f"{name}.{spec.name}" for name, spec in slots],
                output_names=outputs,
                # names, not Dim objects: those refuse whatever an encoder asks of a size, such as at least one window
                dynamic_shapes=(tuple(_named_axes(name, spec) for name, spec in slots),),
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            cause = error if error.__cause__ is None else error.__cause__
            reason = f"{type(cause).__name__}: {cause}".strip().splitlines()[0]
            raise OnnxError(
                f"torch cannot export this model ({reason}); look for an encoder whose Python depends on values, such "
                "as `if mask.any():`, and express it with tensors"
            ) from error
    assert program is not None
    return program


def _splice_encoders(model: onnx.ModelProto, trained: MultimodalModel, opset: int) -> None:
    """Puts the graphs of encoders that are ONNX graphs in front of what reads their tokens."""
    inputs = {value.name: value for value in model.graph.input}
    for name in trained.input_names:
        encoder = trained.encoder(name)
        if isinstance(encoder, OnnxEncoder):
            own = _at_opset(name, encoder, opset)
            inner = prefixed(own.graph, f"{name}.", {})
            nodes = [*inner.node, *model.graph.node]
            del model.graph.node[:]
            model.graph.node.extend(nodes)
            model.graph.initializer.extend(inner.initializer)
            inputs |= {value.name: value for value in inner.input}
            known = {entry.domain for entry in model.opset_import}
            model.opset_import.extend(entry for entry in own.opset_import if entry.domain not in known)
    del model.graph.input[:]
    for name, spec in graph_inputs(trained):
        value = inputs[f"{name}.{spec.name}"]
        for position, axis in _named_axes(name, spec).items():
            value.type.tensor_type.shape.dim[position].dim_param = axis
        model.graph.input.append(value)


def _at_opset(name: str, encoder: OnnxEncoder, opset: int) -> onnx.ModelProto:
    own = onnx.load_from_string(encoder.content)
    if opset_of(own) > opset:
        raise OnnxError(f"the encoder of {name} is of opset {opset_of(own)}, not {opset}; export with that opset")
    return at_opset(own, opset)


def _check_size(model: MultimodalModel) -> None:
    tensors = [*model.parameters(), *model.buffers()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if size > MAX_BYTES:
        raise ValueError(
            f"this model has {size / 1e9:.1f} GB of weights, and one ONNX file holds at most {MAX_BYTES / 1e9:.1f} GB; "
            "take a smaller encoder"
        )


def _example(model: MultimodalModel, slots: list[tuple[str, TensorSpec]]) -> tuple[Tensor, ...]:
    """Tensors to trace with; every axis has a distinct size, so that none is taken for another."""
    rng = np.random.default_rng(0)
    stacked: dict[str, Arrays] = {}
    for name in model.input_names:
        preprocessor = model.encoder(name).preprocessor
        arrays = preprocessor.stack(synthetic_samples(preprocessor, rng, ["middle", "middle"]))
        tokens = {"tokens": np.zeros((2, 1, model.encoder(name).embed_dim), np.float32), "mask": np.ones((2, 1), bool)}
        stacked[name] = {**arrays, **tokens, "present": np.ones(2, bool)}
    sizes = {"batch": 2}
    for name, spec in slots:
        for position, axis in _named_axes(name, spec).items():
            if axis not in sizes:
                size = max(3, stacked[name][spec.name].shape[position])  # a size of 1 would be taken as fixed
                sizes[axis] = next(free for free in itertools.count(size) if free not in sizes.values())
    return tuple(_grown(stacked[name][spec.name], _named_axes(name, spec), sizes) for name, spec in slots)


def _grown(array: np.ndarray, axes: Mapping[int, str], sizes: Mapping[str, int]) -> Tensor:
    """Repeats an array along its varying axes up to the sizes to trace with."""
    for position, axis in axes.items():
        array = np.take(array, np.arange(sizes[axis]) % array.shape[position], axis=position)
    return torch.from_numpy(np.ascontiguousarray(array))


def _named_axes(name: str, spec: TensorSpec) -> dict[int, str]:
    """Position -> name in the graph, of each axis whose size varies."""
    named = {position: axis for position, axis in enumerate(spec.axes) if isinstance(axis, str)}
    return {position: axis if axis == "batch" else f"{name}_{axis}" for position, axis in named.items()}


def _check_graph(model: onnx.ModelProto, slots: list[tuple[str, TensorSpec]], outputs: list[str], opset: int) -> None:
    declared = {}
    for name, spec in slots:
        named = _named_axes(name, spec)
        declared[f"{name}.{spec.name}"] = [named.get(position, size) for position, size in enumerate(spec.axes)]
    found = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in model.graph.input
    }
    if found != declared:
        raise OnnxError(
            f"the exporter made a graph with the inputs {found}, and {declared} are declared; look for a size that an "
            "encoder or its preprocessor's `tensors` takes as fixed"
        )
    given = [value.name for value in model.graph.output]
    if given != outputs:
        raise OnnxError(f"the exporter made a graph with the outputs {given}, not {outputs}; report this")
    written = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if written != opset:
        raise OnnxError(f"the exporter wrote opset {written}, not {opset}; export with opset={written}")
