"""Lowering to fp16 or bf16: which tensors change their type, and what is in them then.

Which tensors change is for ONNX Runtime's converter to say. It works on a skeleton of the model:
the graph with its weights taken out, so that a model of any size passes through shape inference.
Then every weight is rounded, straight from what the model holds.

The converter knows fp16 alone. For bf16 the two 16-bit types change places in the skeleton before
it and again after it: what it made fp16 becomes bf16, and what had 16 bits in the model is again
what it was.
"""

from __future__ import annotations

from collections import Counter
from graphlib import CycleError
from itertools import chain
from pathlib import Path
from typing import Any

import ml_dtypes
import msgspec
import numpy as np
import onnx
import onnx.inliner
import onnxruntime
from onnx import (
    GraphProto,
    ModelProto,
    TensorProto,
    helper,
    numpy_helper,
    shape_inference,
)
from onnxruntime.transformers import float16

from ..config import LoweringOptions, PrecisionMode
from ..errors import EngineBuildError
from . import model_file
from .kept import check_kept
from .model_file import forget_stored, graphs, one_line, tensors
from .narrow import fill, swap, swap_types, write_out_zeros
from .order import restore_order

_LOW: dict[PrecisionMode, int] = {
    PrecisionMode.FP16: TensorProto.FLOAT16,
    PrecisionMode.BF16: TensorProto.BFLOAT16,
}
# The first opset in which QuantizeLinear takes fp16.
_SCALES_16_BIT = 19

# Marks a tensor whose data was taken out of the skeleton; its number follows.
_MARK = "enginery: weight "

_LIBRARY_ERRORS = (
    AssertionError,
    CycleError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
    onnx.checker.ValidationError,
    shape_inference.InferenceError,
)


class LowerRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What the parent asks for.

    Attributes:
        model: Path of the ONNX to lower.
        output: Temporary path of the ONNX to write.
        artifact: The name that it gets later.
        options: How to lower it.
        calibration: Of no use here.
    """

    model: str
    output: str
    artifact: str = "lowered.onnx"
    options: LoweringOptions = LoweringOptions()
    calibration: str | None = None


def lower(request: dict[str, Any], precision: PrecisionMode) -> dict[str, Any]:
    """Write the request's model in a precision; the digest, data files and versions."""
    wanted = msgspec.convert(request, LowerRequest)
    path = Path(wanted.model)
    model = convert(model_file.load(path), precision, wanted.options, name=path.name)
    saved = model_file.save(model, Path(wanted.output), wanted.artifact)
    return {
        "sha256": saved.sha256,
        "versions": {
            library.__name__: library.__version__ for library in (onnx, onnxruntime, np, ml_dtypes)
        },
        "data": list(saved.data),
    }


def convert(
    model: ModelProto, precision: PrecisionMode, options: LoweringOptions, *, name: str
) -> ModelProto:
    """A model with weights and arithmetic in fp16 or bf16; `model` stays as it is.

    A number that the precision cannot hold becomes the nearest one that it can: never infinite,
    and in fp16 never zero.

    Args:
        model: The model, its external data loaded.
        precision: FP16 or BF16.
        options: What stays in fp32, and whether inputs and outputs do.
        name: What messages call the model.

    Raises:
        EngineBuildError: The options name what the model does not have, or it cannot be lowered.
    """
    check_kept(model.graph, options, name)
    return convert_checked(model, precision, options, name=name)


def convert_checked(
    model: ModelProto, precision: PrecisionMode, options: LoweringOptions, *, name: str
) -> ModelProto:
    """What `convert` does, for a model that `check_kept` passed before it was prepared.

    What the options keep may be gone from it: preparing a model for int8 removes nodes.

    Raises:
        EngineBuildError: The model cannot be lowered.
    """
    if _is_lowered(model, precision, options, name):
        return model
    try:
        return _converted(model, precision, options)
    except _LIBRARY_ERRORS as error:
        raise EngineBuildError(
            f"{name} cannot be lowered to {precision.value}: {one_line(error)}; build it in fp32, "
            "or name the node at fault under keep_nodes"
        ) from error


def _converted(model: ModelProto, precision: PrecisionMode, options: LoweringOptions) -> ModelProto:
    skeleton, weights = _skeleton(model)
    for each in graphs(skeleton.graph):
        forget_stored(each)
    noted = {value.name for each in graphs(skeleton.graph) for value in each.value_info}
    skeleton = shape_inference.infer_shapes(skeleton)
    for each in graphs(skeleton.graph):
        write_out_zeros(each)
    if precision is PrecisionMode.BF16:
        swap_types(skeleton.graph)
    sound = _is_sound(skeleton)
    _run_converter(skeleton, options)
    restore_order(skeleton.graph)
    _forget_values(skeleton.graph, noted)
    _restore_shapes(skeleton.graph, weights)
    if sound and (fault := _type_fault(skeleton)):
        raise ValueError(fault)
    if precision is PrecisionMode.BF16:
        swap_types(skeleton.graph)
    for tensor in _marked(skeleton.graph):
        fill(tensor, weights[_number(tensor)])
    return skeleton


def _forget_values(graph: GraphProto, noted: set[str]) -> None:
    """Drop what inference and the converter noted of values: some describes emptied weights."""
    for each in graphs(graph):
        declared = [value for value in each.value_info if value.name in noted]
        del each.value_info[:]
        each.value_info.extend(declared)


def _restore_shapes(graph: GraphProto, weights: list[TensorProto]) -> None:
    """Give marked tensors their shapes again, and small ones that stay fp32 their data.

    Shape inference reads the data, of the scales of a Resize for instance.
    """
    for tensor in _marked(graph):
        weight = weights[_number(tensor)]
        tensor.dims[:] = weight.dims
        if tensor.data_type == weight.data_type and len(weight.raw_data) < model_file.LARGE:
            fill(tensor, weight)


def _is_lowered(
    model: ModelProto, precision: PrecisionMode, options: LoweringOptions, name: str
) -> bool:
    """Whether nothing is left to do: no weight and, where asked, no input or output is fp32."""
    stored = {tensor.data_type for tensor in tensors(model.graph)}
    ends = {
        value.type.tensor_type.elem_type for value in chain(model.graph.input, model.graph.output)
    }
    low = _LOW[precision]
    if TensorProto.DOUBLE in stored and not {TensorProto.FLOAT, low} & stored:
        raise EngineBuildError(
            f"{name} has weights in float64, which are not lowered; export the model in float32"
        )
    if TensorProto.FLOAT not in stored | ends and swap(low) in stored and low not in stored:
        other = TensorProto.DataType.Name(swap(low)).lower()
        raise EngineBuildError(
            f"{name} is a {other} model, which cannot be made {precision.value}; build it from "
            "the fp32 model"
        )
    return (
        low in stored
        and TensorProto.FLOAT not in stored
        and (options.io == "declared" or TensorProto.FLOAT not in ends)
    )


def _skeleton(model: ModelProto) -> tuple[ModelProto, list[TensorProto]]:
    """A model's graph without its large weights, and all weights that it marks.

    Every fp32 tensor is marked, since it may change; of other types those that are large.
    """
    skeleton, whole, emptied = model_file.without_weights(model)
    weights: list[TensorProto] = []
    for weight, tensor in zip(whole, emptied, strict=True):
        if tensor.data_type == TensorProto.FLOAT or len(weight.raw_data) >= model_file.LARGE:
            tensor.doc_string = f"{_MARK}{len(weights)}"
            weights.append(weight)
    for node in (node for each in graphs(skeleton.graph) for node in each.node):
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                # The converter knows constants as tensors only.
                value = np.array(helper.get_attribute_value(attribute), np.float32)
                weights.append(numpy_helper.from_array(value))
                attribute.CopyFrom(helper.make_attribute("value", weights[-1]))
                attribute.t.doc_string = f"{_MARK}{len(weights) - 1}"
    if model.functions:
        # The converter does not look into them.
        skeleton = onnx.inliner.inline_local_functions(skeleton)
    return skeleton, weights


def _marked(graph: GraphProto) -> list[TensorProto]:
    return [tensor for tensor in tensors(graph) if tensor.doc_string.startswith(_MARK)]


def _number(tensor: TensorProto) -> int:
    return int(tensor.doc_string.removeprefix(_MARK))


def _separate_ends(model: ModelProto, *, declared: bool) -> None:
    """Make initializers neither inputs nor outputs: the converter would cast them as such."""
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    if len(inputs) < len(graph.input):
        # Before version 4 every initializer had to be an input.
        model.ir_version = max(model.ir_version, 4)
        del graph.input[:]
        graph.input.extend(inputs)
    for value in graph.output:
        if declared and value.name in {end.name for end in inputs}:
            raise ValueError(f"its output {value.name!r} is one of its inputs")
        if value.name in stored:
            source = f"{value.name}.stored"
            stored[value.name].name = source
            graph.node.append(helper.make_node("Identity", [source], [value.name], source))


def _run_converter(skeleton: ModelProto, options: LoweringOptions) -> None:
    for tensor in _marked(skeleton.graph):
        if tensor.data_type == TensorProto.FLOAT:
            # The converter asks every fp32 tensor for its shape, through its data.
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
            tensor.dims[:] = [0]
    stored = [tensor.name for each in graphs(skeleton.graph) for tensor in each.initializer]
    if doubles := [name for name, count in Counter(stored).items() if count > 1]:
        raise ValueError(f"two graphs in it store {min(doubles)!r}; give them names of their own")
    declared = options.io == "declared"
    _separate_ends(skeleton, declared=declared)
    float16.convert_float_to_float16(
        skeleton,
        keep_io_types=declared,
        disable_shape_infer=True,
        op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *options.keep_operators],
        node_block_list=list(options.keep_nodes),
    )


def _is_sound(model: ModelProto) -> bool:
    """Whether the types of a model are in order, so that a fault found later is the converter's.

    TensorRT takes some that ONNX does not: scales of 16 bits, which it knows from opset 19 on.
    """
    opset = max(
        (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        default=1,
    )
    operators = {node.op_type for each in graphs(model.graph) for node in each.node}
    quantized = not operators.isdisjoint({"QuantizeLinear", "DequantizeLinear"})
    return not (quantized and opset < _SCALES_16_BIT) and _type_fault(model) is None


def _type_fault(model: ModelProto) -> str | None:
    """What is wrong with the types in a model after ONNX's own definitions, if anything is."""
    try:
        shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except shape_inference.InferenceError as error:
        return one_line(error)
    return None
