"""One ONNX graph around the files of an encoder: the preprocessor's tensors in, ``tokens`` and ``mask`` out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx.shape_inference
from onnx import NodeProto, TensorProto, helper, numpy_helper

from encoders.onnx.description import Description, GraphInput, Stage, chosen_output, sources
from encoders.onnx.graph import at_opset, opset_of, prefixed
from encoders.preprocessing import TensorSpec

OPSETS = range(18, 23)
"""Those of exported models."""


def compose(
    description: Description, models: Sequence[onnx.ModelProto], tensors: Sequence[TensorSpec]
) -> onnx.ModelProto:
    """The graph of an encoder.

    Records go through the files together where nothing of one reaches another: images, and texts whose graph takes
    their mask. Otherwise each runs by itself, cut to its real length, and only windows are joined: what a graph takes
    of a whole batch (as the loudest point of a spectrogram) is then that record's alone.

    Args:
        models: of the description's stages.
        tensors: of its preprocessor.

    Raises:
        ValueError: if the files cannot be joined, with the reason.
    """
    opset = min(max(OPSETS[0], *map(opset_of, models)), OPSETS[-1])
    models = [at_opset(onnx.inliner.inline_local_functions(model), opset) for model in models]
    models = [onnx.shape_inference.infer_shapes(model) for model in models]
    composer = _Composer(description, models, tensors)
    composer.run()
    graph = helper.make_graph(
        composer.nodes,
        "encoder",
        [_declared(spec) for spec in tensors],
        [
            helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ("batch", "l", None)),
            helper.make_tensor_value_info("mask", TensorProto.BOOL, ("batch", "l")),
        ],
        list(composer.weights.values()),
    )
    domains = {entry.domain: entry for model in models for entry in model.opset_import if entry.domain != "ai.onnx"}
    domains[""] = helper.make_opsetid("", opset)
    made = helper.make_model(graph, opset_imports=list(domains.values()), ir_version=10)
    onnx.checker.check_model(made)
    return made


def _declared(spec: TensorSpec) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return helper.make_tensor_value_info(spec.name, kind, spec.axes)


def graph_inputs(model: onnx.ModelProto) -> list[GraphInput]:
    """Inputs of a graph that are no weights."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [
        GraphInput(
            value.name,
            value.type.tensor_type.elem_type not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE),
            _axes(value),
            value.type.tensor_type.elem_type == TensorProto.UINT8,
        )
        for value in model.graph.input
        if value.name not in weights
    ]


def _axes(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else dim.dim_param for dim in dims)


class _Composer:
    """Writes the nodes: ``nodes`` is the list that is written to, that of a loop's body while there is one."""

    def __init__(
        self, description: Description, models: Sequence[onnx.ModelProto], tensors: Sequence[TensorSpec]
    ) -> None:
        self.stages, self.models, self.tensors = description.stages, models, tensors
        self.modality = description.preprocess["kind"]
        self.silence = round(description.silence * description.preprocess.get("sample_rate", 16_000))
        self.nodes: list[NodeProto] = []
        self.weights: dict[str, TensorProto] = {}
        self.count = 0

    def run(self) -> None:
        """Writes all nodes."""
        windowed = [index for index, stage in enumerate(self.stages) if stage.window is not None]
        if len(windowed) > 1:
            raise ValueError("two files have a window, and one is possible; give it to one file")
        given = {spec.name: spec.name for spec in self.tensors}
        if not windowed and not self._is_alone():
            self._together(given)
            return
        split = windowed[0] if windowed else len(self.stages)
        items, counts, rank = self._one_by_one(given, split)
        for index in range(split, len(self.stages)):
            items, rank = self._stage(index, {self.tensors[0].name if index == 0 else "previous": items}, rank)
        if windowed and rank != 2:
            raise ValueError(f"{self.stages[-1].file}: gives rank {rank} for each window, and one vector is needed")
        self._gather(items, counts)

    # --- whole batches ---

    def _is_alone(self) -> bool:
        """True where a record's tokens could depend on the others, or the graph takes one record at a time."""
        first = graph_inputs(self.models[0])
        if len(first[0].axes) < 2 or isinstance(first[0].axes[0], int):
            return True
        read = sources(self.stages[0], first, [spec.name for spec in self.tensors], first=True).values()
        is_padded = any(isinstance(axis, str) for spec in self.tensors for axis in spec.axes[1:])
        return is_padded and "attention_mask" not in read

    def _together(self, given: dict[str, str]) -> None:
        x, rank = self._chain(given, len(self.stages))
        x = self._as_tokens(x, rank)
        self._add("Identity", x, to="tokens")
        if rank == 3 and "attention_mask" in given:
            self._add("Cast", given["attention_mask"], to="mask", dtype=TensorProto.BOOL)
        else:
            shape = self._add("Shape", x, end=2)
            self._add("Expand", self._constant(np.array(True)), shape, to="mask")

    # --- one record at a time ---

    def _one_by_one(self, given: Mapping[str, str], split: int) -> tuple[str, str, int]:
        """Items of all records, one after the other [n ...], how many each has [b], and the rank of the items."""
        records = self._add("Gather", self._add("Shape", self.tensors[0].name), self._constant(0))
        outer, self.nodes = self.nodes, []
        number, going, before = "record", "going", "before"
        masks = [spec.name for spec in self.tensors if spec.name.endswith("_mask")]
        rows = {name: self._add("Gather", name, number) for name in given}
        if masks:
            real = self._add("ReduceSum", self._add("Cast", rows[masks[0]], dtype=TensorProto.INT64), keepdims=1)
            rows = {name: self._add("Slice", row, self._constant([0]), real) for name, row in rows.items()}
        if self.silence:
            around = self._constant([self.silence, self.silence])
            rows = {name: self._add("Pad", row, around) for name, row in rows.items()}
        rows = {name: self._add("Unsqueeze", row, self._constant([0])) for name, row in rows.items()}
        x, rank = self._chain(rows, split)
        if split < len(self.stages):
            x = self._windows(self._add("Squeeze", x, self._constant([0])), self.stages[split].window)
        else:
            x = self._add("Squeeze", self._as_tokens(x, rank), self._constant([0]))
        found = self._add("Squeeze", self._add("Shape", x, end=1), self._constant([0]))
        after = self._add("SequenceInsert", before, x)
        still = self._add("Identity", going)
        items = helper.make_tensor_sequence_value_info
        body = helper.make_graph(
            self.nodes,
            "one_record",
            [
                helper.make_tensor_value_info(number, TensorProto.INT64, ()),
                helper.make_tensor_value_info(going, TensorProto.BOOL, ()),
                items(before, TensorProto.FLOAT, None),
            ],
            [
                helper.make_tensor_value_info(still, TensorProto.BOOL, ()),
                items(after, TensorProto.FLOAT, None),
                helper.make_tensor_value_info(found, TensorProto.INT64, ()),
            ],
        )
        self.nodes = outer
        none = self._add("SequenceEmpty", dtype=TensorProto.FLOAT)
        self._add("Loop", records, "", none, to=("all_items", "counts"), body=body)
        return self._add("ConcatFromSequence", "all_items", axis=0), "counts", rank

    def _windows(self, x: str, window: tuple[int, int] | None) -> str:
        """Parts of a record [t ...] -> [l size ...]; what is left at the end is not used."""
        assert window is not None
        size, step = window
        length = self._add("Squeeze", self._add("Shape", x, end=1), self._constant([0]))
        last = self._add("Sub", length, self._constant(size - 1))
        begins = self._add("Range", self._constant(0), last, self._constant(step))
        places = self._add("Add", self._add("Unsqueeze", begins, self._constant([1])), self._constant(np.arange(size)))
        return self._add("Gather", x, places, axis=0)

    def _gather(self, items: str, counts: str) -> None:
        """Tokens [b l d] and mask [b l] of items [n d]."""
        places = self._add("Range", self._constant(0), self._add("ReduceMax", counts, keepdims=0), self._constant(1))
        column = self._add("Unsqueeze", counts, self._constant([1]))
        starts = self._add(
            "Unsqueeze", self._add("CumSum", counts, self._constant(0), exclusive=1), self._constant([1])
        )
        own = self._add("Min", places, self._add("Sub", column, self._constant(1)))  # padding repeats the last
        self._add("Gather", items, self._add("Add", starts, own), to="tokens", axis=0)
        self._add("Less", places, column, to="mask")

    # --- files ---

    def _chain(self, given: Mapping[str, str], end: int) -> tuple[str, int]:
        """Output of the first files, and its rank; without any, the values themselves."""
        x, rank = given[self.tensors[0].name], len(self.tensors[0].axes)
        for index in range(end):
            x, rank = self._stage(index, given if index == 0 else {"previous": x}, rank)
        return x, rank

    def _stage(self, index: int, given: Mapping[str, str], rank: int) -> tuple[str, int]:
        """Output of a file without its axes of size 1, and its rank.

        Args:
            given: source -> its value, ``[b ...]``.
            rank: of the first of them.
        """
        stage, model, prefix = self.stages[index], self.models[index], f"{index}/"
        entries = graph_inputs(model)
        read = sources(stage, entries, list(given), first=index == 0)
        elements = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
        main = next(iter(given))
        feeds, is_flat = {}, False
        for entry in entries:
            source = read[entry.name]
            x = given[main if source == "zeros" else source]
            if source == "zeros":
                x = self._add("Sub", x, x)
            elif source == main:
                x, is_flat = self._fitted(self._normalised(x, rank, stage), rank, entry, stage)
            feeds[entry.name] = self._add("Cast", x, dtype=elements[entry.name])
        outputs = {value.name: value for value in model.graph.output}
        output = chosen_output(stage, list(outputs))
        inner = prefixed(model.graph, prefix, feeds)
        self.nodes.extend(inner.node)
        self.weights |= {tensor.name: tensor for tensor in inner.initializer}
        x = self._add("Cast", feeds.get(output, prefix + output), dtype=TensorProto.FLOAT)
        return self._without_ones(x, _axes(outputs[output]), stage, is_flat)

    def _normalised(self, x: str, rank: int, stage: Stage) -> str:
        if (stage.mean, stage.std) != (0.0, 1.0):
            x = self._add("Cast", x, dtype=TensorProto.FLOAT)
        shape = [-1] + [1] * (rank - 2)  # channels come first
        for operator, numbers, nothing in (("Sub", stage.mean, 0.0), ("Div", stage.std, 1.0)):
            if numbers != nothing:
                array = np.array(numbers, np.float32)
                x = self._add(operator, x, self._constant(array.reshape(shape) if array.ndim else array))
        return x

    def _fitted(self, x: str, rank: int, entry: GraphInput, stage: Stage) -> tuple[str, bool]:
        """Values in the axes of a graph's input, and whether it has no axis of records."""
        axes = entry.axes
        if self.modality == "image" and rank == 4 and len(axes) == 4 and axes[3] == 3 and axes[1] != 3:
            return self._add("Transpose", x, perm=[0, 2, 3, 1]), False
        if len(axes) == rank - 1:
            return self._add("Squeeze", x, self._constant([0])), True
        ones = [place for place, size in enumerate(axes) if place and size == 1]
        more = len(axes) - rank
        if not 0 <= more <= len(ones):
            raise ValueError(
                f"{stage.file}: its input {entry.name!r} has the axes {list(axes)}, and {rank} axes come to it; export "
                "it with others"
            )
        return (self._add("Unsqueeze", x, self._constant(ones[-more:])) if more else x), False

    def _without_ones(self, x: str, axes: tuple[int | str, ...], stage: Stage, is_flat: bool) -> tuple[str, int]:
        if not axes:
            raise ValueError(
                f"{stage.file}: does not declare its output's axes, and they cannot be inferred; write them into it"
            )
        if is_flat:
            x, axes = self._add("Unsqueeze", x, self._constant([0])), (1, *axes)
        ones = [place for place, size in enumerate(axes) if place and size == 1]
        return (self._add("Squeeze", x, self._constant(ones)) if ones else x), len(axes) - len(ones)

    def _as_tokens(self, x: str, rank: int) -> str:
        """An output [b d], [b l d], or of an image a map, in the order of its pixels -> [b l d]."""
        if rank == 2:
            return self._add("Unsqueeze", x, self._constant([1]))
        if rank == 4 and self.modality == "image":
            is_last = graph_inputs(self.models[0])[0].axes[3] == 3
            if not is_last:
                x = self._add("Transpose", x, perm=[0, 2, 3, 1])
            shape = self._add("Concat", self._constant([0, -1]), self._add("Shape", x, start=3), axis=0)
            return self._add("Reshape", x, shape)
        if rank != 3:
            raise ValueError(f"{self.stages[-1].file}: its output has rank {rank}; [b d] or [b l d] is needed")
        return x

    # --- nodes ---

    def _add(self, operator: str, *inputs: str, to: str | Sequence[str] = "", **attributes: Any) -> str:
        """A node; returns the name of its first output."""
        self.count += 1
        outputs = [to or f"value_{self.count}"] if isinstance(to, str) else list(to)
        if "dtype" in attributes:
            attributes["to" if operator == "Cast" else "dtype"] = attributes.pop("dtype")
        self.nodes.append(helper.make_node(operator, list(inputs), outputs, f"{operator}_{self.count}", **attributes))
        return outputs[0]

    def _constant(self, value: int | list[int] | np.ndarray) -> str:
        array = np.asarray(value)
        self.count += 1
        name = f"constant_{self.count}"
        self.weights[name] = numpy_helper.from_array(array, name)
        return name
