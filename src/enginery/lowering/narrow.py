"""The two 16-bit floats: which is which in a graph, and how fp32 is rounded to them."""

from __future__ import annotations

from itertools import chain
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import AttributeProto, GraphProto, TensorProto, helper, numpy_helper
from onnxruntime.transformers import float16

from .model_file import graphs, tensors

_SWAPPED: dict[int, int] = {
    TensorProto.FLOAT16: TensorProto.BFLOAT16,
    TensorProto.BFLOAT16: TensorProto.FLOAT16,
}
# Attributes that hold the type of what a node gives.
_TYPE_ATTRIBUTES = frozenset({"to", "dtype", "output_dtype"})

# Largest finite bfloat16: 8 bits of precision below 2 ** 128.
_LARGEST_BF16 = (2 - 2**-7) * 2.0**127

# Numbers rounded at a time: the converter takes several times their size in memory.
_AT_A_TIME = 1 << 22


def swap_types(graph: GraphProto) -> None:
    """Make fp16 of all that is bf16 and bf16 of all that is fp16."""
    for tensor in tensors(graph):
        tensor.data_type = swap(tensor.data_type)
    for each in graphs(graph):
        for value in chain(each.input, each.output, each.value_info):
            _swap_type(value.type)
        for node in each.node:
            for attribute in node.attribute:
                if attribute.name in _TYPE_ATTRIBUTES and attribute.type == AttributeProto.INT:
                    attribute.i = swap(attribute.i)


def _swap_type(kind: onnx.TypeProto) -> None:
    which = kind.WhichOneof("value")
    if which in ("sequence_type", "optional_type"):
        _swap_type(getattr(kind, which).elem_type)
    elif which in ("tensor_type", "sparse_tensor_type"):
        holder = getattr(kind, which)
        holder.elem_type = swap(holder.elem_type)


def swap(data_type: int) -> int:
    """fp16 for bf16 and bf16 for fp16; any other type is itself."""
    return _SWAPPED.get(data_type, data_type)


def write_out_zeros(graph: GraphProto) -> None:
    """Give every ConstantOfShape its value, which is fp32's zero where it has none.

    The converter of onnxruntime 1.23, the last for Python 3.10, overlooks those that have none.
    """
    for node in graph.node:
        if node.op_type == "ConstantOfShape" and not node.attribute:
            zero = helper.make_tensor("", TensorProto.FLOAT, [1], [0.0])
            node.attribute.append(helper.make_attribute("value", zero))


def fill(tensor: TensorProto, weight: TensorProto) -> None:
    """Give a tensor of the skeleton its data, rounded where its type has changed."""
    name, data_type = tensor.name, tensor.data_type
    if data_type == weight.data_type:
        tensor.CopyFrom(weight)
        tensor.name = name
        return
    tensor.doc_string = weight.doc_string
    tensor.raw_data = _rounded(numpy_helper.to_array(weight).reshape(-1), data_type)


def _rounded(values: npt.NDArray[np.float32], data_type: int) -> bytes:
    half = data_type == TensorProto.FLOAT16
    low = np.empty(values.size, np.float16 if half else ml_dtypes.bfloat16)
    for start in range(0, values.size, _AT_A_TIME):
        part = slice(start, start + _AT_A_TIME)
        low[part] = float16.convert_np_to_float16(values[part]) if half else _bf16(values[part])
    return low.tobytes()


def _bf16(values: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    """Round to nearest even; what would become infinite becomes the largest number instead.

    The lowest fp32 number, with which attention masks are filled, would: and a row of
    infinities is NaN after Softmax.
    """
    with np.errstate(over="ignore"):
        low = values.astype(ml_dtypes.bfloat16)
    lost = np.isinf(low) & np.isfinite(values)
    low[lost] = np.copysign(_LARGEST_BF16, values[lost]).astype(ml_dtypes.bfloat16)
    return low
