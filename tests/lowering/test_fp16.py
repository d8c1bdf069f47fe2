"""Conversions to fp16, and what ONNX Runtime computes with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_models
import onnxruntime
import pytest
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from enginery import EngineBuildError, PrecisionMode
from enginery.config import LoweringOptions
from enginery.digest import sha256_file
from enginery.lowering.floats import convert
from enginery.lowering.fp16 import lower
from enginery.lowering.model_file import graphs, tensors

FLOAT, FLOAT16 = TensorProto.FLOAT, TensorProto.FLOAT16
WEIGHT = np.random.RandomState(0).randn(4, 4).astype(np.float32)
X = np.random.RandomState(1).randn(2, 4).astype(np.float32)
IMAGE = np.random.RandomState(2).randn(1, 1, 4, 4).astype(np.float32)
Node = onnx.NodeProto


def value(name: str, shape: Any, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def node(
    operator: str, inputs: str, outputs: str, name: str | None = "", **attributes: Any
) -> Node:
    """Inputs and outputs apart by spaces, `-` for one left out; named after the first output."""
    read = ["" if one == "-" else one for one in inputs.split()]
    made = outputs.split()
    return helper.make_node(operator, read, made, made[0] if name == "" else name, **attributes)


def model(nodes: list[Node], *, x: Any = (2, 4), outputs: str = "y", **stored: Any) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [value("x", x)],
        [value(name, None) for name in outputs.split()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def branch(name: str, nodes: list[Node], *stored: TensorProto) -> GraphProto:
    output = nodes[-1].output[0]
    return helper.make_graph(nodes, name, [], [value(output, None)], list(stored))


def fp16(source: ModelProto, **options: Any) -> ModelProto:
    return convert(source, PrecisionMode.FP16, LoweringOptions(**options), name="test.onnx")


def run(converted: ModelProto, x: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(
        converted.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    low = session.get_inputs()[0].type == "tensor(float16)"
    return session.run(None, {"x": x.astype(np.float16) if low else x})


def types(of: ModelProto) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in tensors(of.graph)}


def plain() -> ModelProto:
    return model([node("MatMul", "x w", "a"), node("Softmax", "a", "y")], w=WEIGHT)


def awkward() -> dict[str, ModelProto]:
    """What exporters write besides convolutions, each as small as it gets."""
    two = np.array([2], np.int64)
    constant = helper.make_tensor("", FLOAT, [1], [2.0])
    top = branch(
        "then",
        [node("MatMul", "x wt", "p"), node("TopK", "p k", "vt it")],
        numpy_helper.from_array(WEIGHT, "wt"),
    )
    other = branch("else", [node("TopK", "x k", "ve ie")])
    body = helper.make_graph(
        [node("MatMul", "s w", "m"), node("Max", "m s", "next"), node("Identity", "on", "still")],
        "body",
        [value("i", [], TensorProto.INT64), value("on", [], TensorProto.BOOL), value("s", [2, 4])],
        [value("still", [], TensorProto.BOOL), value("next", [2, 4])],
    )
    return {
        "without names": model(
            [
                node("MatMul", "x w", "a", None),
                node("Mul", "x a", "b", None),
                node("Relu", "x", "c", None),
                node("Add", "b c", "y", None),
            ],
            w=WEIGHT,
        ),
        "cast to float": model(
            [
                node("Shape", "x", "s"),
                node("Cast", "s", "f", to=FLOAT),
                node("ReduceSum", "f", "r", keepdims=0),
                node("Mul", "x r", "y"),
            ]
        ),
        "constant of shape": model(
            [
                node("ConstantOfShape", "n", "zeros"),
                node("ConstantOfShape", "n", "twos", value=constant),
                node("Add", "zeros twos", "a"),
                node("Mul", "a x", "y"),
            ],
            n=np.array([2, 4]),
        ),
        "constant": model(
            [
                node("Constant", "", "c", value=numpy_helper.from_array(WEIGHT)),
                node("MatMul", "x c", "y"),
            ]
        ),
        "constant as a float": model(
            [
                node("Constant", "", "c", value_float=2.0),
                node("Constant", "", "d", value_floats=[1.0, 2.0, 3.0, 4.0]),
                node("Mul", "x c", "a"),
                node("Add", "a d", "y"),
            ]
        ),
        "top k": model([node("TopK", "x k", "v i"), node("Mul", "v v", "y")], k=two),
        "range": model(
            [node("Range", "a b c", "r"), node("Mul", "x r", "y")],
            a=np.float32(0),
            b=np.float32(4),
            c=np.float32(1),
        ),
        "resize": model(
            [node("Resize", "x - scales", "r", mode="nearest"), node("Mul", "r r", "y")],
            x=(1, 1, 4, 4),
            scales=np.array([1, 1, 2, 2], np.float32),
        ),
        "initializer as output": model([node("MatMul", "x w", "y")], outputs="y w", w=WEIGHT),
        "output read inside": model(
            [node("MatMul", "x w", "y"), node("Relu", "y", "z")], outputs="y z", w=WEIGHT
        ),
        "if": model(
            [
                node("ReduceSum", "x", "s", keepdims=0),
                node("Greater", "s zero", "c"),
                node("If", "c", "b", then_branch=top, else_branch=other),
                node("Relu", "b", "y"),
            ],
            k=two,
            zero=np.float32(0),
        ),
        "loop": model(
            [node("Loop", "n on x", "l", body=body), node("Relu", "l", "y")],
            n=np.array(3),
            on=np.array(True),
            w=WEIGHT * 0.3,
        ),
        "no weights": model([node("Relu", "x", "y")]),
    }


@pytest.mark.parametrize("io", ["declared", "lowered"])
@pytest.mark.parametrize("name", awkward())
def test_an_awkward_graph_computes_the_same(name: str, io: str) -> None:
    source = awkward()[name]
    before = source.SerializeToString(deterministic=True)
    converted = fp16(source, io=io)
    assert source.SerializeToString(deterministic=True) == before
    x = IMAGE if name == "resize" else X
    for found, wanted in zip(run(converted, x), run(source, x), strict=True):
        assert found.dtype == (np.float32 if io == "declared" else np.float16)
        np.testing.assert_allclose(found, wanted, rtol=2e-2, atol=2e-2)
    kept = {"a", "b", "c"} if name == "range" else {"scales"} if name == "resize" else set()
    assert {name for name, kind in types(converted).items() if kind == FLOAT} == kept
    assert "enginery" not in str(converted)


@pytest.mark.parametrize("name", awkward())
def test_what_stands_in_a_graph_stands_in_order(name: str) -> None:
    for graph in graphs(fp16(awkward()[name]).graph):
        places = {made: place for place, one in enumerate(graph.node) for made in one.output}
        for place, one in enumerate(graph.node):
            assert all(places.get(read, -1) < place for read in one.input)


def test_kept_nodes_and_operators_compute_in_fp32() -> None:
    source = model(
        [node("MatMul", "x w", "a"), node("MatMul", "a w", "b"), node("MatMul", "b v", "c"), node("Softmax", "c", "y")],
        w=WEIGHT, v=WEIGHT,
    )  # fmt: skip
    converted = fp16(source, keep_nodes=("c",), keep_operators=("Softmax",))
    inferred = onnx.shape_inference.infer_shapes(converted, check_type=True, strict_mode=True)
    kinds = {one.name: one.type.tensor_type.elem_type for one in inferred.graph.value_info}
    made = {one.name: one.output[0] for one in inferred.graph.node}
    assert {name: kinds[made[name]] for name in "abc"} == {"a": FLOAT16, "b": FLOAT16, "c": FLOAT}
    softmax = next(one for one in inferred.graph.node if one.op_type == "Softmax")
    assert kinds[softmax.input[0]] == FLOAT
    assert types(converted) == {"w": FLOAT16, "v": FLOAT}, "only a kept node reads v"
    np.testing.assert_allclose(run(converted, X)[0], run(source, X)[0], atol=2e-2)


def test_a_weight_shared_by_a_kept_and_a_lowered_node() -> None:
    source = model([node("MatMul", "x w", "a"), node("MatMul", "a w", "y")], w=WEIGHT)
    converted = fp16(source, keep_nodes=("y",))
    np.testing.assert_allclose(run(converted, X)[0], run(source, X)[0], rtol=2e-2, atol=2e-2)
    assert types(converted) == {"w": FLOAT16}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep_nodes": ("soft",)}, "test.onnx has no node 'soft', which keep_nodes names; the nearest is 'y'"),
        ({"keep_operators": ("SoftMax",)}, "test.onnx has no operator 'SoftMax', which keep_operators names; the nearest is 'Softmax'"),
        ({"keep_nodes": ("",)}, "test.onnx has no node '', which keep_nodes names"),
    ],
)  # fmt: skip
def test_a_kept_name_that_the_model_lacks(options: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineBuildError) as caught:
        fp16(plain(), **options)
    assert message in str(caught.value)


def test_numbers_beyond_fp16_become_the_nearest_ones() -> None:
    weights = np.array([1e5, -1e5, 1e-12, -1e-12, 0, np.inf, np.nan, 1.0], np.float32)
    converted = fp16(model([node("Mul", "x w", "y")], x=(8,), w=weights))
    (found,) = (numpy_helper.to_array(tensor) for tensor in converted.graph.initializer)
    tiny = np.finfo(np.float16).smallest_subnormal
    wanted = np.array([65504, -65504, tiny, -tiny, 0, np.inf, np.nan, 1.0], np.float16)
    np.testing.assert_array_equal(found, wanted)


def test_a_model_in_fp16_passes_through_and_one_half_way_is_finished() -> None:
    once = fp16(plain())
    assert fp16(once).SerializeToString() == once.SerializeToString()
    ends = fp16(once, io="lowered").graph
    assert [one.type.tensor_type.elem_type for one in (*ends.input, *ends.output)] == [FLOAT16] * 2


def test_a_model_that_the_converter_cannot_take() -> None:
    source = model([node("Relu", "x", "y")], outputs="y x")
    with pytest.raises(
        EngineBuildError,
        match=r"^test.onnx cannot be lowered to fp16: its output 'x' is one of its inputs; build it in fp32, or name the node at fault under keep_nodes$",
    ):
        fp16(source)


def conditional(*names: str) -> ModelProto:
    """Two branches that read a value around them and store a weight under these names."""
    then, other = (
        branch(name, [node("MatMul", f"r {stored}", name)], numpy_helper.from_array(WEIGHT, stored))
        for name, stored in zip(("then", "else"), names, strict=True)
    )
    return model(
        [node("ReduceSum", "x", "s", keepdims=0), node("Greater", "s zero", "c"), node("Relu", "x", "r"), node("If", "c", "y", then_branch=then, else_branch=other)],
        zero=np.float32(0),
    )  # fmt: skip


def test_types_that_the_converter_got_wrong_are_an_error_that_names_the_node() -> None:
    """It casts what a kept node reads, but not what a graph inside the node reads."""
    with pytest.raises(
        EngineBuildError,
        match=r"^test.onnx cannot be lowered to fp16: .*node name: then.* inconsistent type.*; build it in fp32",
    ):
        fp16(conditional("w", "v"), keep_operators=("If",))


def test_two_branches_that_store_a_weight_under_one_name() -> None:
    with pytest.raises(
        EngineBuildError,
        match="two graphs in it store 'w'; give them names of their own; build it in fp32",
    ):
        fp16(conditional("w", "w"))


def test_a_weight_whose_data_is_cut_short() -> None:
    source = plain()
    source.graph.initializer[0].raw_data = b"short"
    with pytest.raises(
        EngineBuildError,
        match=r"^test.onnx cannot be lowered to fp16: buffer size must be a multiple",
    ):
        fp16(source)


def test_initializers_that_are_inputs_too_become_weights() -> None:
    source = plain()
    source.ir_version = 3
    source.graph.input.append(value("w", [4, 4]))
    converted = fp16(source)
    assert [one.name for one in converted.graph.input] == ["x"]
    assert types(converted) == {"w": FLOAT16}
    np.testing.assert_allclose(run(converted, X)[0], run(plain(), X)[0], atol=1e-2)


def test_local_functions_are_lowered_too() -> None:
    source = model([node("twice", "x", "y", domain="own")])
    body = [node("Add", "a a", "b")]
    opsets = [helper.make_opsetid("", 17)]
    source.functions.append(helper.make_function("own", "twice", ["a"], ["b"], body, opsets))
    source.opset_import.append(helper.make_opsetid("own", 1))
    converted = fp16(source, io="lowered")
    np.testing.assert_allclose(run(converted, X)[0], 2 * X, rtol=1e-2)


def test_quantized_models_of_an_old_opset_are_lowered() -> None:
    """TensorRT takes fp16 scales, which ONNX knows from opset 19 on."""
    quantize = node("QuantizeLinear", "x s z", "q")
    source = model(
        [quantize, node("DequantizeLinear", "q s z", "y")], s=np.float32(0.5), z=np.int8(0)
    )
    assert types(fp16(source)) == {"s": FLOAT16, "z": TensorProto.INT8}


def test_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    source = tmp_path / "small.onnx"
    onnx_models.write_small(source, seed=1)
    code = (
        "import json, sys; from enginery.lowering.fp16 import lower; lower(json.loads(sys.argv[1]))"
    )
    for name in ("one.onnx", "two.onnx"):
        request = f'{{"model": "{source}", "output": "{tmp_path / name}"}}'
        subprocess.run([sys.executable, "-W", "error", "-c", code, request], check=True)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_a_request_is_answered_with_what_was_written(tmp_path: Path) -> None:
    onnx_models.write_small(tmp_path / "small.onnx", seed=1, weights="weights.bin")
    output = tmp_path / ".small_fp16.onnx.00000000.tmp"
    reply = lower(
        {
            "model": str(tmp_path / "small.onnx"),
            "output": str(output),
            "artifact": "small_fp16.onnx",
            "options": LoweringOptions(io="lowered").as_dict(),
            "calibration": None,
        }
    )
    assert reply["sha256"] == sha256_file(output)
    assert reply["data"] == []
    assert reply["versions"]["onnxruntime"] == onnxruntime.__version__
    written = onnx.load(output)
    assert types(written) == {"kernel": FLOAT16, "matrix": FLOAT16}
    assert written.graph.input[0].type.tensor_type.elem_type == FLOAT16


def test_scales_of_a_resize_that_are_described_as_torch_does() -> None:
    """torch's exporter notes a type for every initializer; the scales of a Resize stay fp32."""
    scales = np.array([1, 1, 2, 2], np.float32)
    source = model(
        [helper.make_node("Resize", ["x", "", "scales"], ["y"], "up", mode="nearest")],
        x=(1, 2, 3, 3),
        scales=scales,
    )
    source.graph.value_info.append(value("scales", [4]))
    converted = fp16(source)
    x = np.ones((1, 2, 3, 3), np.float32)
    assert run(converted, x)[0].shape == (1, 2, 6, 6)
