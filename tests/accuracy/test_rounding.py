"""Explicit rounding against numpy, ml_dtypes and ONNX's own reference evaluator."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime as ort
import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from enginery.accuracy.rounding import explicit_rounding, narrow_types
from enginery.errors import EngineBuildError

Array = np.ndarray[Any, Any]
NARROW = [(TensorProto.FLOAT16, np.float16), (TensorProto.BFLOAT16, ml_dtypes.bfloat16)]

pytestmark = pytest.mark.parametrize(("kind", "dtype"), NARROW, ids=["fp16", "bf16"])


def model(
    nodes: list[NodeProto], weights: dict[str, Array] | None = None, *, io: int = TensorProto.FLOAT, opset: int = 17
) -> ModelProto:  # fmt: skip
    """From x to y; both are a vector of any length."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", io, ["n"])],
        [helper.make_tensor_value_info("y", io, None)],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run(proto: ModelProto, x: Array, level: str = "ORT_ENABLE_BASIC") -> Array:
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (y,) = session.run(None, {"x": x})
    return np.asarray(y)


def rounded(array: Array, dtype: Any) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(dtype).astype(np.float32)


def cast(before: str, after: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [before], [after], to=kind)


def chain(kind: int) -> list[NodeProto]:
    """x - 1/3 + 1/3: in exact arithmetic nothing happens."""
    return [
        cast("x", "narrow", kind),
        helper.make_node("Sub", ["narrow", "third"], ["less"]),
        helper.make_node("Add", ["less", "third"], ["sum"]),
        cast("sum", "y", TensorProto.FLOAT),
    ]


def hard_numbers() -> Array:
    random = np.random.RandomState(0)
    bits = random.randint(0, 2**32, size=200_000, dtype=np.uint64).astype(np.uint32)
    ties = np.arange(2**16, dtype=np.uint32) << 16 | 0x8000
    half_ties = np.arange(2**19, dtype=np.uint32) << 13 | 0x1000
    return np.concatenate([bits, ties, half_ties]).view(np.float32)


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"])
def test_casts_round_to_nearest_even_and_stay_in_the_graph(
    kind: int, dtype: Any, level: str
) -> None:
    nodes = [cast("x", "narrow", kind), cast("narrow", "y", TensorProto.FLOAT)]
    x = hard_numbers()
    expected = rounded(x, dtype)
    np.testing.assert_array_equal(run(explicit_rounding(model(nodes)), x, level), expected)


def test_every_result_is_rounded(kind: int, dtype: Any) -> None:
    third = np.array([1 / 3], np.float32).astype(dtype)
    original = model(chain(kind), {"third": third})
    x = np.random.RandomState(0).randn(10_000).astype(np.float32)
    wide = third.astype(np.float32)
    expected = rounded(rounded(rounded(x, dtype) - wide, dtype) + wide, dtype)
    explicit = explicit_rounding(original)
    np.testing.assert_array_equal(run(explicit, x), expected)


def test_onnxruntime_alone_leaves_the_rounding_out(kind: int, dtype: Any) -> None:
    """The reason for this module: where this fails, ONNX Runtime does it by itself."""
    third = np.array([1 / 3], np.float32).astype(dtype)
    original = model(chain(kind), {"third": third})
    x = np.random.RandomState(0).randn(10_000).astype(np.float32)
    wide = third.astype(np.float32)
    if kind == TensorProto.BFLOAT16:
        with pytest.raises(Exception, match=r"tensor\(bfloat16\)|NOT_IMPLEMENTED"):
            run(original, x)
        return
    expected = rounded(rounded(rounded(x, dtype) - wide, dtype) + wide, dtype)
    assert (run(original, x) != expected).mean() > 0.5


def test_it_agrees_with_the_reference_evaluator(kind: int, dtype: Any) -> None:
    """Bit for bit; the matrix product is of small integers, so its sum is exact in any order."""
    random = np.random.RandomState(1)
    weights = {
        "matrix": random.randint(-3, 4, size=(16, 16)).astype(dtype),
        "scale": random.randn(16).astype(dtype),
        "shift": random.randn(16).astype(dtype),
    }
    nodes = [
        cast("x", "narrow", kind),
        helper.make_node("MatMul", ["narrow", "matrix"], ["product"]),
        helper.make_node("Mul", ["product", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["shifted"]),
        helper.make_node("Relu", ["shifted"], ["positive"]),
        helper.make_node("Mul", ["positive", "positive"], ["square"]),
        cast("square", "y", TensorProto.FLOAT),
    ]
    original = model(nodes, weights)
    x = random.randint(-3, 4, size=16).astype(np.float32)
    (expected,) = ReferenceEvaluator(original).run(None, {"x": x})
    assert np.count_nonzero(expected) > 3
    np.testing.assert_array_equal(run(explicit_rounding(original), x), expected)


def inner_graph(kind: int, name: str, operator: str) -> GraphProto:
    third = numpy_helper.from_array(np.array([1 / 3], np.float32), f"third_{name}")
    nodes = [
        cast(third.name, f"narrow_third_{name}", kind),
        helper.make_node(operator, ["narrow", f"narrow_third_{name}"], [f"one_{name}"]),
        helper.make_node("Mul", [f"one_{name}", f"narrow_third_{name}"], [f"out_{name}"]),
    ]
    output = helper.make_tensor_value_info(f"out_{name}", kind, None)
    return helper.make_graph(nodes, name, [], [output], [third])


def test_graphs_inside_are_rounded_too(kind: int, dtype: Any) -> None:
    nodes = [
        cast("x", "narrow", kind),
        cast("x", "truths", TensorProto.BOOL),
        helper.make_node("Gather", ["truths", "first"], ["condition"]),
        helper.make_node(
            "If",
            ["condition"],
            ["chosen"],
            then_branch=inner_graph(kind, "then", "Add"),
            else_branch=inner_graph(kind, "else", "Sub"),
        ),
        cast("chosen", "y", TensorProto.FLOAT),
    ]
    explicit = explicit_rounding(model(nodes, {"first": np.array(0, np.int64)}))
    third = rounded(np.array([1 / 3], np.float32), dtype)
    for first, apply in ((1, np.add), (0, np.subtract)):
        x = np.random.RandomState(3).randn(1000).astype(np.float32)
        x[0] = first
        expected = rounded(rounded(apply(rounded(x, dtype), third), dtype) * third, dtype)
        np.testing.assert_array_equal(run(explicit, x), expected)


def test_narrow_inputs_and_outputs_become_wide_and_are_rounded(kind: int, dtype: Any) -> None:
    nodes = [helper.make_node("Add", ["x", "x"], ["two"]), helper.make_node("Sub", ["two", "third"], ["y"])]  # fmt: skip
    third = np.array([1 / 3], np.float32).astype(dtype)
    explicit = explicit_rounding(model(nodes, {"third": third}, io=kind))
    x = np.random.RandomState(0).randn(1000).astype(np.float32)
    expected = rounded(2 * rounded(x, dtype) - third.astype(np.float32), dtype)
    np.testing.assert_array_equal(run(explicit, x), expected)


def test_constants_in_attributes_are_widened(kind: int, dtype: Any) -> None:
    value = numpy_helper.from_array(np.array([1 / 3], np.float32).astype(dtype))
    nodes = [
        helper.make_node("Constant", [], ["third"], value=value),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["thirds"], value=value),
        cast("x", "narrow", kind),
        helper.make_node("Sum", ["narrow", "third", "thirds"], ["sum"]),
        helper.make_node("CastLike", ["shape", "narrow"], ["size"]),
        helper.make_node("Mul", ["sum", "size"], ["product"]),
        cast("product", "y", TensorProto.FLOAT),
    ]
    x = np.random.RandomState(0).randn(10).astype(np.float32)
    third = rounded(np.array([1 / 3], np.float32), dtype)
    expected = rounded(10 * rounded(rounded(x, dtype) + third + third, dtype), dtype)
    np.testing.assert_array_equal(run(explicit_rounding(model(nodes)), x), expected)


def test_old_operators_are_taken_to_a_version_that_has_the_cast(kind: int, dtype: Any) -> None:
    nodes = [
        cast("x", "narrow", kind),
        helper.make_node("Dropout", ["narrow"], ["kept", "mask"]),
        helper.make_node("Mul", ["kept", "kept"], ["square"]),
        cast("square", "y", TensorProto.FLOAT),
    ]
    x = np.random.RandomState(0).randn(100).astype(np.float32)
    expected = rounded(rounded(x, dtype) ** 2, dtype)
    np.testing.assert_array_equal(run(explicit_rounding(model(nodes, opset=9)), x), expected)


def test_an_operator_of_unknown_result_is_refused(kind: int, dtype: Any) -> None:
    nodes = [
        cast("x", "narrow", kind),
        helper.make_node("Mystery", ["narrow"], ["z"], domain="com.example", name="odd"),
        cast("z", "y", TensorProto.FLOAT),
    ]
    odd = model(nodes)
    odd.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(EngineBuildError, match=r"what node 'odd' \(Mystery\) makes is unknown"):
        explicit_rounding(odd)


def test_which_types_a_model_has(kind: int, dtype: Any) -> None:
    name = {TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}[kind]
    wide = [helper.make_node("Neg", ["x"], ["y"])]
    assert narrow_types(model(wide)) == set()
    assert narrow_types(model(wide, {"w": np.zeros(1, np.float32).astype(dtype)})) == {name}
    assert narrow_types(model(wide, io=kind)) == {name}
    assert narrow_types(model([cast("x", "h", kind), cast("h", "y", 1)])) == {name}
