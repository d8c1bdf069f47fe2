"""Nodes and operators that the options keep in the precision that they have."""

from __future__ import annotations

import difflib

from onnx import GraphProto, NodeProto

from ..config import LoweringOptions
from ..errors import EngineBuildError
from .model_file import graphs


def is_kept(node: NodeProto, options: LoweringOptions) -> bool:
    """Whether the options keep a node, by its own name or by its operator."""
    return node.name in options.keep_nodes or node.op_type in options.keep_operators


def check_kept(graph: GraphProto, options: LoweringOptions, name: str) -> None:
    """Check that a model has every node and operator that the options keep.

    Args:
        graph: The graph of the model as it was loaded: preparing it for int8 removes nodes.
        options: What to keep.
        name: What messages call the model.

    Raises:
        EngineBuildError: A node or operator is not there; the message names the nearest.
    """
    nodes = [node for each in graphs(graph) for node in each.node]
    kinds = (
        ("keep_nodes", "node", options.keep_nodes, {node.name for node in nodes}),
        ("keep_operators", "operator", options.keep_operators, {node.op_type for node in nodes}),
    )
    for field, kind, wanted, there in kinds:
        for entry in wanted:
            if not entry or entry not in there:
                near = difflib.get_close_matches(entry, sorted(there - {""}), n=1, cutoff=0.0)
                hint = f"; the nearest is {near[0]!r}" if near else f"; no {kind} there has a name"
                raise EngineBuildError(f"{name} has no {kind} {entry!r}, which {field} names{hint}")
