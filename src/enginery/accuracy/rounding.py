"""Explicit rounding: a model in fp16 or bf16 as one in fp32 that rounds where the model does.

ONNX Runtime on the CPU has few kernels for bf16 and none for most operators in fp16. Where it
lacks one it computes in fp32 and goes on in fp32 from node to node, without the rounding that
makes the precision what it is, so it would find a lowered model better than it is. Here every
fp16 or bf16 weight becomes its exact fp32 value, and every fp16 or bf16 tensor is rounded after
the node that makes it, by a Cast to its type and one back, which ONNX Runtime does run, to
nearest even.

What is computed then is each operator in fp32 with its result rounded. An engine accumulates
in fp32 too, and rounds at the same places or, where it fuses operators, at fewer of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TypeProto,
    helper,
    inliner,
    numpy_helper,
    shape_inference,
    version_converter,
)

from ..errors import EngineBuildError

_NARROW: dict[int, str] = {TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}

# Attributes that name a type of tensor.
_TYPE_ATTRIBUTES = frozenset(
    {"to", "dtype", "output_dtype", "precision", "softmax_precision", "stash_type"}
)

# Their outputs hold only values that their inputs hold, which are rounded already.
_MOVES = frozenset({
    "Abs", "Compress", "Concat", "Constant", "ConstantOfShape", "DepthToSpace", "Dropout",
    "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "If", "Loop", "Max",
    "MaxPool", "Min", "Neg", "Pad", "Relu", "Reshape", "Scan", "Slice", "SpaceToDepth", "Split",
    "Squeeze", "Tile", "TopK", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip

# Cast has bf16 from this version on, and so has all of ONNX.
_BF16_OPSET = 13

# Shape inference needs the values of small tensors (shapes, axes) and the types of all.
_SMALL = 1024

_ROUNDED = "/enginery_rounded"
_NARROWED = "/enginery_narrow"
_EXACT = "/enginery_exact"


def narrow_types(model: ModelProto) -> frozenset[str]:
    """Which of "fp16" and "bf16" a model has weights, inputs or casts in."""
    found: set[int] = set()
    for graph in _graphs(model.graph):
        found |= {tensor.data_type for tensor in graph.initializer}
        found |= {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
        for node in graph.node:
            for attribute in node.attribute:
                found.add(attribute.t.data_type)
                if attribute.name in _TYPE_ATTRIBUTES:
                    found.add(attribute.i)
    return frozenset(_NARROW[kind] for kind in found if kind in _NARROW)


def explicit_rounding(model: ModelProto) -> ModelProto:
    """The same model in fp32 with its roundings made explicit; names of inputs and outputs stay.

    Inputs and outputs that were fp16 or bf16 are fp32, rounded.

    Args:
        model: The model, with its weights in memory; it is changed.

    Raises:
        EngineBuildError: The type of a tensor cannot be found out.
    """
    if model.functions:
        model = inliner.inline_local_functions(model)
    types = _types(model)
    bf16 = TensorProto.BFLOAT16 in types.values()
    inputs = {
        value.name: value.type.tensor_type.elem_type
        for value in model.graph.input
        if value.type.tensor_type.elem_type in _NARROW
    }
    renamed = {name: name + _ROUNDED for name in inputs}
    for graph in _graphs(model.graph):
        _widen(graph)
        _rename_uses(graph, renamed)
        nodes = [one for node in graph.node for one in _rounding(node, types)]
        del graph.node[:]
        graph.node.extend(nodes)
    heads = [one for name, kind in inputs.items() for one in _round(name, renamed[name], kind)]
    nodes = [*heads, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return _with_cast_to_bf16(model) if bf16 else model


def _with_cast_to_bf16(model: ModelProto) -> ModelProto:
    """The model in a version of the operators that has a Cast to bf16."""
    opset = next(one.version for one in model.opset_import if one.domain in {"", "ai.onnx"})
    if opset >= _BF16_OPSET:
        return model
    try:
        return version_converter.convert_version(model, _BF16_OPSET)
    except (version_converter.ConvertError, ValueError) as error:
        raise EngineBuildError(
            f"a bf16 model of opset {opset} cannot be taken to opset {_BF16_OPSET}: {error}"
        ) from error


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and whatever graphs its nodes hold."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.output:
                    yield from _graphs(inner)


def _types(model: ModelProto) -> dict[str, int]:
    """Element type of every tensor, by name; names are unique over all graphs of a model."""
    try:
        inferred = shape_inference.infer_shapes(_skeleton(model))
    except (shape_inference.InferenceError, ValueError) as error:
        raise EngineBuildError(f"the types of the model cannot be inferred: {error}") from error
    found: dict[str, int] = {}
    # What the model itself says comes first, so that what is inferred replaces it.
    for graph in (*_graphs(model.graph), *_graphs(inferred.graph)):
        found |= {tensor.name: tensor.data_type for tensor in graph.initializer}
        for value in (*graph.value_info, *graph.input, *graph.output):
            if value.type.WhichOneof("value") is not None:
                found[value.name] = value.type.tensor_type.elem_type
    return found


def _skeleton(model: ModelProto) -> ModelProto:
    """The model without its large weights, which would be copied to infer types from nothing."""
    graph = model.graph
    skeleton = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    skeleton.graph.name = graph.name
    skeleton.graph.node.extend(graph.node)
    skeleton.graph.input.extend(graph.input)
    skeleton.graph.output.extend(graph.output)
    declared = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if int(np.prod(tensor.dims)) <= _SMALL:
            skeleton.graph.initializer.append(tensor)
        elif tensor.name not in declared:
            skeleton.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return skeleton


def _widen(graph: GraphProto) -> None:
    """Make fp32 of whatever is fp16 or bf16 in a graph, its inner graphs excepted."""
    del graph.value_info[:]
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for value in (*graph.input, *graph.output):
        _widen_type(value.type)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in _TYPE_ATTRIBUTES and attribute.i in _NARROW:
                attribute.i = TensorProto.FLOAT
            if attribute.type == AttributeProto.TENSOR:
                _widen_tensor(attribute.t)
            for tensor in attribute.tensors:
                _widen_tensor(tensor)


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type in _NARROW:
        exact = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(exact, tensor.name))


def _widen_type(kind: TypeProto) -> None:
    which = kind.WhichOneof("value")
    if which in {"sequence_type", "optional_type"}:
        _widen_type(getattr(kind, which).elem_type)
    elif kind.tensor_type.elem_type in _NARROW:
        kind.tensor_type.elem_type = TensorProto.FLOAT


def _rename_uses(graph: GraphProto, renamed: dict[str, str]) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in renamed:
                node.input[place] = renamed[name]


def _rounding(node: NodeProto, types: dict[str, int]) -> Iterable[NodeProto]:
    """A node, and the rounding of whatever it makes."""
    if node.output and node.output[0] not in types:
        _refuse_unknown(node, types)
    if node.op_type in _MOVES:
        return [node]
    rounding: list[NodeProto] = []
    for place, name in enumerate(node.output):
        if types.get(name) in _NARROW:
            node.output[place] = name + _EXACT
            rounding += _round(name + _EXACT, name, types[name])
    return [node, *rounding]


def _refuse_unknown(node: NodeProto, types: dict[str, int]) -> None:
    if any(name and (name not in types or types[name] in _NARROW) for name in node.input):
        raise EngineBuildError(
            f"the type of what node {node.name!r} ({node.op_type}) makes is unknown, so it cannot "
            "be told where the model rounds; declare its type in the model's value_info"
        )


def _round(exact: str, rounded: str, kind: int) -> tuple[NodeProto, NodeProto]:
    narrow = exact + _NARROWED
    return (
        helper.make_node("Cast", [exact], [narrow], name=narrow, to=kind),
        helper.make_node(
            "Cast", [narrow], [rounded], name=rounded + _ROUNDED, to=TensorProto.FLOAT
        ),
    )
