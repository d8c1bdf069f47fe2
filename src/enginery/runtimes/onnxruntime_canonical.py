"""One form for what ONNX Runtime writes in several: the order of nodes, and the names it invents.

ONNX Runtime puts in some nodes in the order of addresses in memory. Those nodes then take each
other's names from one process to the next, and the whole file its order: eight processes wrote
a model of six convolutions with six outputs in five orders (1.32). So the nodes of each graph are
put in an order that follows from what they read alone, and what the source does not name is named
by its place in that order. What the source names keeps its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count

from onnx import GraphProto, ModelProto, NodeProto


@dataclass(frozen=True, slots=True)
class SourceNames:
    """The names in a source, of all its graphs; `nodes` are pairs of operator and name."""

    nodes: frozenset[tuple[str, str]]
    values: frozenset[str]

    @classmethod
    def of(cls, model: ModelProto) -> SourceNames:
        """The names in a model."""
        graphs = list(_graphs(model.graph))
        return cls(
            frozenset((node.op_type, node.name) for graph in graphs for node in graph.node),
            frozenset(name for graph in graphs for name in (*_defined(graph), *_captured(graph))),
        )


def canonicalize(engine: ModelProto, source: SourceNames) -> None:
    """Put the engine, which ONNX Runtime made of the source, in its one form.

    Names that are invented are unique over the whole engine, and none is the source's.
    """
    _sort(engine.graph)
    _Naming(source).rename(engine.graph, {})


class _Naming:
    def __init__(self, source: SourceNames) -> None:
        self._source = source
        self._taken = {*source.values, *(name for _, name in source.nodes)}
        self._places = count()
        self._values = count()

    def rename(self, graph: GraphProto, outer: dict[str, str]) -> None:
        """Rename in a graph and those in its nodes; `outer` has new names of what is outside."""
        here = _defined(graph)
        # Weights as they come to be read: what they are called here may follow from addresses.
        met = chain.from_iterable((*_reads(node), *node.output) for node in graph.node)
        ordered = dict.fromkeys(chain((value.name for value in graph.input), met, sorted(here)))
        names = outer | {name: self._value(name) for name in ordered if name in here}
        for tensor in graph.initializer:
            tensor.name = names[tensor.name]
        for sparse in graph.sparse_initializer:
            sparse.values.name = names[sparse.values.name]
        for value in chain(graph.input, graph.output, graph.value_info):
            value.name = names.get(value.name, value.name)
        for node in graph.node:
            place = next(self._places)
            if node.name and (node.op_type, node.name) not in self._source.nodes:
                node.name = self._free(f"{node.op_type}_{place}")
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
            for inner in _subgraphs(node):
                self.rename(inner, names)
        graph.initializer.sort(key=lambda tensor: tensor.name)
        graph.sparse_initializer.sort(key=lambda sparse: sparse.values.name)
        graph.value_info.sort(key=lambda value: value.name)

    def _value(self, name: str) -> str:
        return name if name in self._source.values else self._free(f"value_{next(self._values)}")

    def _free(self, wanted: str) -> str:
        further = (f"{wanted}_{number}" for number in count(1))
        name = next(name for name in chain([wanted], further) if name not in self._taken)
        self._taken.add(name)
        return name


def _sort(graph: GraphProto) -> None:
    """Put nodes in the order in which the outputs, one after the other, come to need them."""
    for node in graph.node:
        for inner in _subgraphs(node):
            _sort(inner)
    nodes = list(graph.node)
    reads = [list(_reads(node)) for node in nodes]
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    read = set(chain.from_iterable(reads))
    # What nobody reads comes last; every other node is needed by one of these.
    unread = (i for i, node in enumerate(nodes) if read.isdisjoint(node.output))
    roots = [makers[value.name] for value in graph.output if value.name in makers]
    done: dict[int, None] = {}
    waiting = [(index, False) for index in reversed([*roots, *unread])]
    while waiting:
        index, ready = waiting.pop()
        if ready:
            done[index] = None
        elif index not in done:
            needed = [makers[name] for name in reads[index] if name in makers]
            waiting.append((index, True))
            waiting.extend((other, False) for other in reversed(needed))
    del graph.node[:]
    graph.node.extend(nodes[index] for index in done)


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for inner in _subgraphs(node):
            yield from _graphs(inner)


def _subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in sorted(node.attribute, key=lambda attribute: attribute.name):
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _reads(node: NodeProto) -> Iterator[str]:
    """The names of what a node reads, by itself or through the graphs in it."""
    yield from filter(None, node.input)
    for inner in _subgraphs(node):
        yield from _captured(inner)


def _captured(graph: GraphProto) -> Iterator[str]:
    """The names in a graph that are defined outside of it."""
    here = _defined(graph)
    for name in chain.from_iterable(map(_reads, graph.node)):
        if name not in here:
            yield name
    for value in graph.output:
        if value.name not in here:
            yield value.name


def _defined(graph: GraphProto) -> set[str]:
    return {
        *(value.name for value in graph.input),
        *(tensor.name for tensor in graph.initializer),
        *(sparse.values.name for sparse in graph.sparse_initializer),
        *(name for node in graph.node for name in node.output if name),
    }
