"""A task graph with its states, drawn by Graphviz or written in its language."""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

import msgspec

from ..errors import EngineryError, RuntimeUnavailableError
from .words import lacking, printable

if TYPE_CHECKING:
    from graphviz import Digraph  # type: ignore[import-untyped]

TEXT = frozenset({".dot", ".gv"})
PICTURES = frozenset({".svg", ".png", ".pdf"})

_INK, _MUTED, _FONT = "#16191d", "#59606a", "Helvetica,Arial,sans-serif"
_COLOURS = {
    "fresh": ("#e6f3eb", "#1d7347"),
    "stale": ("#fdf1db", "#8a5a00"),
    "missing": ("#f6f7f8", "#59606a"),
    "damaged": ("#fbe7e5", "#b3261e"),
    "unsigned": ("#f4eaf9", "#7a3e9d"),
    "elsewhere": ("#e8eff2", "#3f6070"),
    "cannot run": ("#fbe7e5", "#b3261e"),
    "missed": ("#fbe7e5", "#b3261e"),
}
_OTHER = ("#ffffff", "#8b95a1")
_DASHED = frozenset({"missing", "elsewhere", "not needed", "left out"})


class Node(msgspec.Struct, frozen=True):
    """A task or a file.

    Attributes:
        key: What edges call it.
        label: What is shown.
        state: Its state in words; empty for a file that is there.
        file: Whether it is a file that no task makes, and drawn small.
    """

    key: str
    label: str
    state: str = ""
    file: bool = False


class Graph(msgspec.Struct, frozen=True):
    """Nodes, and pairs of keys: what comes first, and what needs it."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]


def reduced(edges: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The edges without those that a longer way says already, in their order."""
    pairs = list(dict.fromkeys(edges))
    after: dict[str, set[str]] = {}
    for first, then in pairs:
        after.setdefault(first, set()).add(then)
    try:
        backwards = tuple(TopologicalSorter(after).static_order())
    except CycleError:
        return tuple(pairs)  # doit refuses a circle
    bits = {key: 1 << place for place, key in enumerate(backwards)}
    reach: dict[str, int] = {}
    for key in backwards:
        reach[key] = 0
        for then in after.get(key, ()):
            reach[key] |= bits[then] | reach[then]
    return tuple(
        (first, then)
        for first, then in pairs
        if not any(reach[other] & bits[then] for other in after[first])
    )


def drawn(graph: Graph, suffix: str) -> bytes:
    """The graph as a file.

    Args:
        graph: The graph.
        suffix: What it is to be, one of `TEXT` or `PICTURES`.

    Raises:
        EngineryError: Graphviz is needed and not there, or fails.
        RuntimeUnavailableError: The extra `report` is not installed.
    """
    drawing = _drawing(graph)
    return drawing.source.encode() if suffix in TEXT else _picture(drawing, suffix[1:])


def _picture(drawing: Digraph, form: str) -> bytes:
    from graphviz.backend import (  # type: ignore[import-untyped]
        CalledProcessError,
        ExecutableNotFound,
    )

    try:
        data: bytes = drawing.pipe(format=form, quiet=True)
    except ExecutableNotFound as error:
        raise EngineryError(
            "Graphviz's program dot is not there; install Graphviz (apt-get install graphviz), "
            "or write the text alone with -o graph.dot"
        ) from error
    except CalledProcessError as error:
        said = " ".join(error.stderr.decode("utf-8", "replace").split())
        raise EngineryError(
            f"Graphviz's program dot failed: {said or f'its exit code is {error.returncode}'}; "
            "write the text alone with -o graph.dot to try it"
        ) from error
    return data


def _drawing(graph: Graph) -> Digraph:
    try:
        from graphviz import Digraph, escape, nohtml
    except (ImportError, OSError) as error:
        raise RuntimeUnavailableError(
            f"the graph needs {lacking(error)}; install it with: pip install 'enginery[report]'"
        ) from error
    drawing = Digraph(graph_attr=_GRAPH, node_attr=_NODE, edge_attr=_EDGE)
    # Keys of our own: in a name of a user's a colon would mean a port.
    keys = {node.key: f"n{place}" for place, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        lines = [node.label, node.state] if node.state else [node.label]
        label = nohtml("\\n".join(escape(printable(line)) for line in lines))
        drawing.node(keys[node.key], label, **_look(node))
    for first, then in graph.edges:
        drawing.edge(keys[first], keys[then])
    return drawing


def _look(node: Node) -> dict[str, str]:
    """Colour and shape; a file has no box, and what is not there has a dashed one."""
    fill, line = _COLOURS.get(node.state, _OTHER)
    if node.file and not node.state:
        return {"fontsize": "10", "fontcolor": _MUTED, "penwidth": "0", "margin": "0.06,0.03",
                "height": "0.2"}  # fmt: skip
    dashed = ",dashed" if node.state in _DASHED else ""
    shape = {"shape": "note", "fontsize": "10"} if node.file else {}
    return {"style": f"filled,rounded{dashed}", "fillcolor": fill, "color": line, **shape}


_GRAPH = {"rankdir": "LR", "bgcolor": "white", "pad": "0.3", "nodesep": "0.14", "ranksep": "0.6",
          "fontname": _FONT}  # fmt: skip
_NODE = {"fontname": _FONT, "fontsize": "11", "fontcolor": _INK, "shape": "box", "height": "0.3",
         "margin": "0.16,0.07", "penwidth": "1.2"}  # fmt: skip
_EDGE = {"color": "#8b95a1", "penwidth": "0.9", "arrowsize": "0.6"}
