"""The order of nodes: each behind those that it reads from, in the graph that has its inputs."""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import TopologicalSorter

from onnx import GraphProto, NodeProto

from .model_file import graphs, inner_graphs


def restore_order(graph: GraphProto) -> None:
    """Put every cast where its input is, and every node behind those that it reads from.

    The converter appends all casts to the outermost graph.
    """
    inner = list(graphs(graph))[1:]
    while strays := _strays(graph):
        for node in strays:
            missing = next(name for name in node.input if name and name not in _given(graph))
            homes = [each for each in inner if missing in _given(each)]
            if len(homes) != 1:
                raise ValueError(
                    f"{missing!r}, which {node.name!r} reads, is in {len(homes)} graphs"
                )
            homes[0].node.append(node)
            graph.node.remove(node)
    for each in reversed([graph, *inner]):
        ordered = [each.node[index] for index in _order(each)]
        del each.node[:]
        each.node.extend(ordered)


def _strays(graph: GraphProto) -> list[NodeProto]:
    given = _given(graph)
    return [node for node in graph.node if any(name not in given for name in node.input if name)]


def _given(graph: GraphProto) -> set[str]:
    """Names that a graph defines itself."""
    ends = (value.name for value in graph.input)
    stored = (tensor.name for tensor in graph.initializer)
    sparse = (tensor.values.name for tensor in graph.sparse_initializer)
    return {*ends, *stored, *sparse, *(name for node in graph.node for name in node.output)}


def _order(graph: GraphProto) -> Iterable[int]:
    source = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    sorter: TopologicalSorter[int] = TopologicalSorter()
    for index, node in enumerate(graph.node):
        sorter.add(index, *sorted({source[name] for name in read_names(node) if name in source}))
    return sorter.static_order()


def read_names(node: NodeProto) -> set[str]:
    """Names that a node reads, those that graphs inside it read from around it among them."""
    read = set(node.input)
    for each in inner_graphs(node):
        read.update(name for inner in each.node for name in inner.input)
        read.update(value.name for value in each.output)
    return read
