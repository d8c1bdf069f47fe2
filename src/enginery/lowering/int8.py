"""Lowering to int8: a calibration cache becomes explicit QuantizeLinear and DequantizeLinear.

Quantized are the nodes that multiply an activation by constant weights: Conv, ConvTranspose,
MatMul and Gemm. Weights are stored in int8, a scale for each output channel; an activation has
the one scale that the cache gives it. Products of two activations (attention) stay in floating
point: they have no weights to shrink, and quantizing them cost 1.6 dB on a small ViT.

The model is quantized first and what remains is lowered to fp16 after it, since the converter to
fp16 puts casts between the tensors that the cache names. In fp16, Q and DQ want scales in fp16: a
scale of the cache becomes the nearest one, and weights are quantized with the rounded scale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from ..calibration.cache import read_cache
from ..config import LoweringOptions, PrecisionMode
from ..errors import EngineBuildError
from . import floats, model_file
from .coverage import check_cover, known_names
from .kept import check_kept, is_kept
from .model_file import one_line
from .order import restore_order
from .preparation import FLOATS, prepare, uses

_OPERATORS = ("Conv", "ConvTranspose", "MatMul", "Gemm")

# ONNX Runtime marks models whose shapes are inferred; others it writes to disk and back.
_INFERRED = ("onnx.infer", "onnxruntime.quant")

# A weight over 127.4 scales would be rounded to 128, which int8 has not.
_LARGEST_QUOTIENT = 127.4


class LowerRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What the parent asks for.

    Attributes:
        model: Path of the ONNX to lower.
        output: Temporary path of the ONNX to write.
        artifact: The name that it gets later.
        calibration: Path of the calibration cache.
        options: How to lower it.
    """

    model: str
    output: str
    artifact: str
    calibration: str
    options: LoweringOptions = LoweringOptions()


@dataclass(frozen=True, slots=True)
class Product:
    """A node that multiplies an activation by constant weights.

    Attributes:
        node: The node.
        activation: Its first input.
        weight: The initializer that is its second input.
        axis: The dimension of the weight that is the output channel.
    """

    node: NodeProto
    activation: str
    weight: TensorProto
    axis: int


def lower(request: dict[str, Any]) -> dict[str, Any]:
    """Write the request's model in int8; the digest, data files and versions.

    Raises:
        CalibrationCacheError: The cache cannot be read or is not of this model.
        EngineBuildError: The model cannot be loaded or quantized.
    """
    wanted = msgspec.convert(request, LowerRequest)
    path, cache = Path(wanted.model), Path(wanted.calibration)
    scales = read_cache(cache).scales
    model = model_file.load(path)
    known = known_names(model.graph)
    check_kept(model.graph, wanted.options, path.name)
    model = prepare(model, wanted.options, name=path.name)
    products = quantizable(model.graph, wanted.options)
    if not products:
        raise EngineBuildError(
            f"{path.name} has nothing to quantize: no {', '.join(_OPERATORS)} with constant "
            "weights is left; build it in fp16"
        )
    check_cover(scales, known, activations(products), wanted.options, f"{cache} for {path.name}")
    covered = [product for product in products if product.activation in scales]
    model = quantize(model, covered, scales, wanted.options, name=path.name)
    if wanted.options.int8_with == "fp16":
        model = floats.convert_checked(model, PrecisionMode.FP16, wanted.options, name=path.name)
    saved = model_file.save(model, Path(wanted.output), wanted.artifact)
    return {
        "sha256": saved.sha256,
        "versions": {library.__name__: library.__version__ for library in (onnx, onnxruntime, np)},
        "data": list(saved.data),
    }


def quantizable(graph: GraphProto, options: LoweringOptions) -> list[Product]:
    """The nodes of a prepared model that int8 quantizes, in their order."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type not in _OPERATORS or is_kept(node, options) or len(node.input) < 2:
            continue
        weight, axis = weights.get(node.input[1]), _axis(node)
        if weight is None or axis is None or weight.data_type not in FLOATS:
            continue
        matrix = node.op_type in ("MatMul", "Gemm")
        if node.input[0] not in weights and (len(weight.dims) == 2 or not matrix):
            found.append(Product(node, node.input[0], weight, axis))
    return found


def activations(products: Sequence[Product]) -> dict[str, int]:
    """Name to element type of the tensors that need a scale, in the order of the graph."""
    return {product.activation: product.weight.data_type for product in products}


def describe_types(graph: GraphProto, types: Mapping[str, int]) -> None:
    """Note the types of tensors in a graph where it says nothing; libraries skip the others."""
    described = {each.name for each in (*graph.value_info, *graph.input, *graph.output)}
    graph.value_info.extend(
        helper.make_tensor_value_info(name, kind, None)
        for name, kind in types.items()
        if name not in described
    )


def quantize(
    model: ModelProto,
    products: Sequence[Product],
    scales: Mapping[str, float],
    options: LoweringOptions,
    *,
    name: str,
) -> ModelProto:
    """A prepared model with Q and DQ before the products' activations, and int8 weights.

    Other nodes that read such an activation read the quantized one as well: TensorRT then joins
    a residual addition to its convolution. Kept nodes and outputs of the model stay exact.
    """
    graph = model.graph
    half = options.int8_with == "fp16"
    declared = {each.name for each in graph.value_info}
    overrides: dict[str, list[dict[str, Any]]] = {}
    for product in _isolated_weights(graph, products):
        overrides[product.weight.name] = _weight_scales(product, half)
    types, ranges = activations(products), {}
    describe_types(graph, types)
    for tensor, quantized in _isolated_activations(graph, types, options).items():
        scale = _rounded(scales[tensor], types[tensor], half)
        ranges[quantized] = _range(scale)
        # Working the scale out of the range again may miss it by a bit.
        overrides[quantized] = [{"scale": np.array(scale), "zero_point": np.array(0, np.int8)}]
    names = [product.node.name for product in products]
    properties = {each.key: each.value for each in model.metadata_props}
    helper.set_model_props(model, {**properties, _INFERRED[0]: _INFERRED[1]})
    try:
        result = _run_quantizer(model, names, ranges, overrides)
    except (ValueError, RuntimeError, AssertionError) as error:
        raise EngineBuildError(
            f"{name} cannot be quantized: {one_line(error)}; build it in fp16"
        ) from error
    helper.set_model_props(result, properties)
    noted = [each for each in result.graph.value_info if each.name in declared]
    del result.graph.value_info[:]
    result.graph.value_info.extend(noted)
    return result


def _run_quantizer(
    model: ModelProto,
    names: list[str],
    ranges: dict[str, TensorData],
    overrides: dict[str, list[dict[str, Any]]],
) -> ModelProto:
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),
        nodes_to_quantize=names,
        nodes_to_exclude=[],
        op_types_to_quantize=list(_OPERATORS),
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            # TensorRT takes no int32 DQ on a bias.
            "QuantizeBias": False,
            "QDQDisableWeightAdjustForInt32Bias": True,
            "OpTypesToExcludeOutputQuantization": list(_OPERATORS),
            "TensorQuantOverrides": overrides,
        },
    )
    result: ModelProto = quantizer.quantize_model()
    # ONNX Runtime's own sort overlooks inner graphs.
    restore_order(result.graph)
    return result


def _isolated_weights(graph: GraphProto, products: Sequence[Product]) -> Iterator[Product]:
    """The products, each with a weight that nobody else reads, or reads along the same axis."""
    readers = uses(graph)
    own = Counter((product.weight.name, product.axis) for product in products)
    copies: dict[tuple[str, int], TensorProto] = {}
    for product in products:
        key = (product.weight.name, product.axis)
        if own[key] != readers[key[0]] and key not in copies:
            copies[key] = graph.initializer.add()
            copies[key].CopyFrom(product.weight)
            copies[key].name = f"{key[0]}_along_{key[1]}"
        weight = copies.get(key, product.weight)
        product.node.input[1] = weight.name
        yield Product(product.node, product.activation, weight, product.axis)


def _isolated_activations(
    graph: GraphProto, types: Mapping[str, int], options: LoweringOptions
) -> dict[str, str]:
    """Activation to the name under which it is quantized: a copy where others want it exact."""
    outputs = {each.name for each in graph.output}
    exact = {name for node in graph.node if is_kept(node, options) for name in node.input}
    names = {}
    for name, kind in types.items():
        names[name] = name
        if name in outputs | exact:
            names[name] = copy = f"{name}_to_quantize"
            for node in graph.node:
                if not is_kept(node, options):
                    node.input[:] = [copy if each == name else each for each in node.input]
            graph.node.append(helper.make_node("Identity", [name], [copy], name=copy))
            describe_types(graph, {copy: kind})
    return names


def _weight_scales(product: Product, half: bool) -> list[dict[str, Any]]:
    array = np.abs(numpy_helper.to_array(product.weight).astype(np.float64))
    largest = array.max(axis=tuple(set(range(array.ndim)) - {product.axis}), initial=0.0)
    kind = np.float16 if half or product.weight.data_type == TensorProto.FLOAT16 else np.float32
    scales = np.minimum(largest / 127, np.finfo(kind).max).astype(kind)
    # Among the smallest numbers, rounding to the nearest can lose half of the range.
    short = scales.astype(np.float64) * _LARGEST_QUOTIENT < largest
    scales = np.where(short, np.nextafter(scales, kind(np.inf)), scales)
    scales = np.where(largest == 0, kind(1), scales)
    return [{"axis": product.axis, "scale": scale, "zero_point": 0} for scale in scales]


def _rounded(scale: float, kind: int, half: bool) -> Any:
    """A scale as a number that the graph can hold: itself, or the nearest one in fp16."""
    number: Any = np.float32(scale)
    if half or kind == TensorProto.FLOAT16:
        limits = np.finfo(np.float16)
        number = np.float16(np.clip(number, limits.smallest_subnormal, limits.max))
    return number if kind == TensorProto.FLOAT16 else np.float32(number)


def _range(scale: Any) -> TensorData:
    with np.errstate(over="ignore"):
        largest = np.float32(127) * np.float32(scale)
    return TensorData(lowest=-largest, highest=largest)


def _axis(node: NodeProto) -> int | None:
    """The dimension of a node's weight that is its output channel; None: cannot be quantized."""
    if node.op_type == "Conv":
        return 0
    attributes = {each.name: each for each in node.attribute}
    if node.op_type == "ConvTranspose":
        # Along the channels of a group, TensorRT's scales would be those of another group too.
        return 1 if "group" not in attributes or attributes["group"].i == 1 else None
    if node.op_type == "MatMul":
        return 1
    # ONNX Runtime sets beta to 1, whether it quantizes the bias or not.
    scaled = "beta" in attributes and attributes["beta"].f != 1 and len(node.input) > 2
    if scaled or ("transA" in attributes and attributes["transA"].i):
        return None
    return 0 if "transB" in attributes and attributes["transB"].i else 1
