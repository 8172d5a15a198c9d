"""Names of the values of an ONNX graph, and one graph put into another."""

from collections.abc import Iterator, Mapping

import onnx
import onnx.version_converter


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those inside its nodes (branches, loop bodies)."""
    yield graph
    for node in graph.node:
        for inner in graphs_inside(node):
            yield from graphs(inner)


def graphs_inside(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Branches or the body of a loop, without those inside them."""
    for attribute in node.attribute:
        yield from (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)


def value_names(graph: onnx.GraphProto) -> set[str]:
    """Names of all values that the graph computes or holds."""
    computed = {name for inner in graphs(graph) for node in inner.node for name in node.output}
    return computed | {tensor.name for inner in graphs(graph) for tensor in inner.initializer}


def rename_values(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Gives values new names, everywhere they occur."""
    for inner in graphs(graph):
        for named in (*inner.input, *inner.output, *inner.initializer, *inner.value_info):
            named.name = names.get(named.name, named.name)
        for node in inner.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]


def prefixed(graph: onnx.GraphProto, prefix: str, given: Mapping[str, str]) -> onnx.GraphProto:
    """A copy whose values and nodes have names of their own.

    Args:
        prefix: of every name.
        given: value -> its name in the other graph, without the prefix.
    """
    copied = onnx.GraphProto()
    copied.CopyFrom(graph)
    names = value_names(graph) | {value.name for inner in graphs(graph) for value in inner.input}
    rename_values(copied, {name: prefix + name for name in names if name} | dict(given))
    for inner in graphs(copied):
        for index, node in enumerate(inner.node):
            node.name = f"{prefix}{node.name or f'{node.op_type}_{index}'}"
    return copied


def at_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model with operators of that version of ONNX.

    Raises:
        ValueError: if onnx cannot convert it.
    """
    given = opset_of(model)
    if given == opset:
        return model
    try:
        return onnx.version_converter.convert_version(model, opset)
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"opset {given} cannot be converted to {opset} ({reason}); export it in opset {opset}"
        ) from error


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the operators of ONNX itself."""
    return max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
