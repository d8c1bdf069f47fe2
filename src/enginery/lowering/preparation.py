"""Preparing a model for int8: a modern opset, weights as initializers, folded normalization.

Activations keep the names that they had: a calibration cache names them. Batch normalization goes
into the convolution before it, so that weights are quantized as they act.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.inliner
from google.protobuf.message import EncodeError
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.version_converter import ConvertError, convert_version

from ..config import LoweringOptions
from ..errors import EngineBuildError
from .kept import is_kept
from .model_file import graphs, one_line

# The element types of weights that int8 quantizes.
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)

# QuantizeLinear takes fp16 from opset 19 on, which came with version 9 of the format.
_OPSET, _IR = 19, 9


def prepare(model: ModelProto, options: LoweringOptions, *, name: str) -> ModelProto:
    """A model ready to be quantized, its activations under the names that they had.

    It is in opset 19 or later, its constant weights are initializers, every node has a name of
    its own, and batch normalization is folded into convolutions.

    Raises:
        EngineBuildError: The model is quantized already or cannot be brought to opset 19.
    """
    if any(node.op_type == "QuantizeLinear" for each in graphs(model.graph) for node in each.node):
        raise EngineBuildError(f"{name} is quantized already; build it in fp32 or fp16")
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    model = _modern(model, name)
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [each for each in graph.input if each.name not in constants]
    del graph.input[:]
    graph.input.extend(inputs)
    _constants_to_initializers(graph)
    _fold_batch_normalization(graph, options)
    taken = Counter(node.name for node in graph.node)
    for number, node in enumerate(graph.node):
        if not node.name or (taken[node.name] > 1 and not is_kept(node, options)):
            node.name = f"{node.op_type}_{number}_of_{node.output[0]}"
    return model


def uses(graph: GraphProto) -> Counter[str]:
    """How often each name is read, graph outputs and inner graphs among the readers."""
    found: Counter[str] = Counter()
    for each in graphs(graph):
        found.update(name for node in each.node for name in node.input)
        found.update(value.name for value in each.output)
    return found


def _modern(model: ModelProto, name: str) -> ModelProto:
    opset = next((each.version for each in model.opset_import if not each.domain), _OPSET)
    if opset < _OPSET:
        try:
            model = convert_version(model, _OPSET)
        except EncodeError as error:
            raise EngineBuildError(
                f"{name} is over 2 GB in opset {opset}, too large to be brought to {_OPSET}, which "
                f"int8 wants; export it in opset {_OPSET}"
            ) from error
        except (ConvertError, RuntimeError, ValueError) as error:
            raise EngineBuildError(
                f"{name} is in opset {opset} and cannot be brought to {_OPSET}, which int8 wants: "
                f"{one_line(error)}; export it in opset {_OPSET}"
            ) from error
    else:
        copy = ModelProto()
        copy.CopyFrom(model)
        model = copy
    model.ir_version = max(model.ir_version, _IR)
    return model


def _constants_to_initializers(graph: GraphProto) -> None:
    """Make initializers of constant nodes, and of what only copies or transposes one."""
    outputs = {each.name for each in graph.output}
    values = {tensor.name: tensor for tensor in graph.initializer}
    gone = []
    for index, node in enumerate(graph.node):
        value = _constant_value(node, values)
        if value is None or node.output[0] in outputs:
            continue
        copy = graph.initializer.add()
        copy.CopyFrom(value)
        copy.name = node.output[0]
        values[copy.name] = copy
        gone.append(index)
    _remove_nodes(graph, gone)


def _constant_value(node: NodeProto, values: Mapping[str, TensorProto]) -> TensorProto | None:
    attributes = {each.name: each for each in node.attribute}
    value: TensorProto | None = None
    if node.op_type == "Constant" and "value" in attributes:
        value = attributes["value"].t
    elif node.op_type in ("Identity", "Transpose"):
        value = values.get(node.input[0])
    if value is None or value.data_type not in FLOATS:
        return None
    if node.op_type == "Transpose":
        order = list(attributes["perm"].ints) if "perm" in attributes else None
        turned = np.transpose(numpy_helper.to_array(value), order)
        value = numpy_helper.from_array(np.ascontiguousarray(turned))
    return value


def _fold_batch_normalization(graph: GraphProto, options: LoweringOptions) -> None:
    readers = uses(graph)
    values = {tensor.name: tensor for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node if node.op_type == "Conv"}
    gone = []
    for index, node in enumerate(graph.node):
        conv = makers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if conv is None or readers[conv.output[0]] != 1 or len(node.output) != 1:
            continue
        constants = [*conv.input[1:], *node.input[1:]]
        if is_kept(conv, options) or is_kept(node, options) or not values.keys() >= {*constants}:
            continue
        arrays = [numpy_helper.to_array(values[name]) for name in constants]
        names = [f"{node.output[0]}_folded_weight", f"{node.output[0]}_folded_bias"]
        for array, name in zip(_folded(arrays, _epsilon(node)), names, strict=True):
            graph.initializer.append(numpy_helper.from_array(array, name))
        del conv.input[1:]
        conv.input.extend(names)
        conv.output[0] = node.output[0]
        gone.append(index)
    _remove_nodes(graph, gone)


def _folded(arrays: list[npt.NDArray[Any]], epsilon: float) -> list[npt.NDArray[Any]]:
    """Weight and bias of a convolution that does what it and its normalization did."""
    weight, *bias, gain, shift, mean, variance = (array.astype(np.float64) for array in arrays)
    factor = gain / np.sqrt(variance + epsilon)
    folded = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    offset = ((bias[0] if bias else 0.0) - mean) * factor + shift
    return [array.astype(arrays[0].dtype) for array in (folded, offset)]


def _epsilon(node: NodeProto) -> float:
    return next((each.f for each in node.attribute if each.name == "epsilon"), 1e-5)


def _remove_nodes(graph: GraphProto, indices: Sequence[int]) -> None:
    for index in reversed(indices):
        del graph.node[index]
    readers = uses(graph)
    unused = [i for i, tensor in enumerate(graph.initializer) if not readers[tensor.name]]
    for index in reversed(unused):
        del graph.initializer[index]
