"""Changes to a finished ONNX graph."""

from collections.abc import Callable, Collection, Iterable

import onnx

from encoders.onnx.graph import graphs


def strip(model: onnx.ModelProto) -> None:
    """Removes the exporter's debugging notes, above all stack traces with this machine's paths.

    Shapes of inner values go too: they can be inferred again, and prevent quantisation.
    """
    model.doc_string = ""
    model.producer_version = model.producer_version.partition("+")[0]  # without the build: +cu130, +cpu
    for holder in (model, *model.functions):
        del holder.metadata_props[:]
    for function in model.functions:
        function.doc_string = ""
        del function.value_info[:]
        _strip_nodes(function.node)
    for graph in graphs(model.graph):
        graph.doc_string = ""
        del graph.value_info[:]
        del graph.metadata_props[:]
        for value in (*graph.input, *graph.output, *graph.initializer):
            value.doc_string = ""
            del value.metadata_props[:]
        _strip_nodes(graph.node)
    drop_unused(model.graph)


def _strip_nodes(nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            attribute.doc_string = ""


def drop_unused(graph: onnx.GraphProto) -> None:
    """Removes the weights that nothing reads."""
    used = {name for inner in graphs(graph) for node in inner.node for name in node.input}
    used |= {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    if len(kept) < len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(kept)


def upward(
    graph: onnx.GraphProto, starts: Callable[[onnx.NodeProto], bool], *, stop: Collection[str] = ()
) -> dict[str, onnx.NodeProto]:
    """Nodes by name: those that start, and all above them, but none above an operator whose type is in ``stop``."""
    maker = {name: node for node in graph.node for name in node.output}
    found: dict[str, onnx.NodeProto] = {}
    pending = [node for node in graph.node if starts(node)]
    while pending:
        node = pending.pop()
        if node.name not in found:
            found[node.name] = node
            pending += [maker[name] for name in node.input if name in maker and node.op_type not in stop]
    return found


def before_log(graph: onnx.GraphProto) -> set[str]:
    """Names of the logarithms, and of all nodes above them: the power spectra of audio."""
    return set(upward(graph, lambda node: node.op_type == "Log"))
