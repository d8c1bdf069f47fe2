"""Conversions to bf16: types, values, and engines built from them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_models
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from enginery import (
    BackboneSpec,
    EngineBuildError,
    EngineCompiler,
    EngineCompileRequest,
    HostCapabilities,
    PrecisionMode,
    load_runtime,
    read_verified,
)
from enginery.config import LoweringOptions
from enginery.lowering import model_file
from enginery.lowering.bf16 import lower
from enginery.lowering.floats import convert

FLOAT, FLOAT16, BFLOAT16 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16
WEIGHT = np.random.RandomState(0).randn(4, 4).astype(np.float32)


def model(
    nodes: list[onnx.NodeProto],
    kinds: tuple[int, int] = (FLOAT, FLOAT),
    opset: int = 17,
    **stored: Any,
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", kinds[0], [2, 4])],
        [helper.make_tensor_value_info("y", kinds[1], None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def bf16(source: ModelProto, **options: Any) -> ModelProto:
    return convert(source, PrecisionMode.BF16, LoweringOptions(**options), name="test.onnx")


def types(of: ModelProto) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in model_file.tensors(of.graph)}


def casts(of: ModelProto) -> list[int]:
    return [one.attribute[0].i for one in of.graph.node if one.op_type == "Cast"]


def inferred(of: ModelProto) -> dict[str, int]:
    """Value name to type after ONNX's own definitions, which must find no fault."""
    onnx.checker.check_model(of)
    found = onnx.shape_inference.infer_shapes(of, check_type=True, strict_mode=True).graph
    values = (*found.input, *found.value_info, *found.output)
    return {one.name: one.type.tensor_type.elem_type for one in values}


def build(path: Path) -> bytes:
    """An engine of TensorRT-RTX, from the ONNX as it is."""
    runtime = load_runtime("tensorrt_rtx")
    request = EngineCompileRequest(
        backbones=(BackboneSpec("model", path, (2, 4), "x"),),
        calibration_path=None,
        cache_root=path.parent / "engines",
        precision=PrecisionMode.FP32,
        host=HostCapabilities(86, None, runtime.installed_version()),
        workspace_mb=64,
    )
    compiler = EngineCompiler(inference_runtime=runtime, logger=logging.getLogger("tests"))
    (result,) = compiler.compile_engines_for_corpus(request)
    return read_verified(result.entry.engine_path)


def test_weights_are_rounded_to_nearest_even_straight_from_fp32() -> None:
    halfway = np.array([1 + 2**-8, 1 + 3 * 2**-8], np.float32)
    extremes = np.array([1e5, -1e5, 1e-12, 0, np.inf, -np.inf, np.nan], np.float32)
    weights = np.concatenate([halfway, extremes, np.random.RandomState(0).randn(1000)]).astype(
        np.float32
    )
    converted = bf16(
        model([helper.make_node("Mul", ["x", "w"], ["y"])], w=weights.reshape(1009, 1, 1))
    )
    (tensor,) = converted.graph.initializer
    assert (tensor.name, tensor.data_type, list(tensor.dims)) == ("w", BFLOAT16, [1009, 1, 1])
    found = np.frombuffer(tensor.raw_data, ml_dtypes.bfloat16)
    np.testing.assert_array_equal(
        found.view(np.uint16), weights.astype(ml_dtypes.bfloat16).view(np.uint16)
    )
    assert [float(number) for number in found[:2]] == [1.0, 1 + 2**-6]
    assert float(found[2]) == pytest.approx(1e5, rel=2**-8)
    assert float(found[4]) == pytest.approx(1e-12, rel=2**-8)


def test_the_lowest_fp32_number_stays_finite() -> None:
    """Attention masks are filled with it; a row of infinities is NaN after Softmax."""
    limits = np.finfo(np.float32)
    source = model(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        w=np.array([limits.min, limits.max, -np.inf, 1], np.float32),
    )
    found = np.frombuffer(bf16(source).graph.initializer[0].raw_data, ml_dtypes.bfloat16)
    largest = ml_dtypes.finfo(ml_dtypes.bfloat16).max
    assert [*found] == [-largest, largest, -np.inf, 1]


@pytest.mark.parametrize("io", ["declared", "lowered"])
def test_all_that_was_fp32_is_bf16(io: str) -> None:
    low = helper.make_tensor("", FLOAT, [1], [2.0])
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("MatMul", ["a", f"w{name}"], [name])], name, [],
            [helper.make_tensor_value_info(name, FLOAT, [2, 4])],
            [numpy_helper.from_array(WEIGHT, f"w{name}")],
        )
        for name in ("then", "else")
    }  # fmt: skip
    source = model(
        [
            helper.make_node("ConstantOfShape", ["n"], ["zeros"]),
            helper.make_node("ConstantOfShape", ["n"], ["twos"], value=low),
            helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(WEIGHT, "c")),
            helper.make_node("Constant", [], ["one"], value_float=1e5),
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Cast", ["shape"], ["sizes"], to=FLOAT),
            helper.make_node("ReduceSum", ["sizes"], ["size"], keepdims=0),
            helper.make_node("Sum", ["x", "zeros", "twos", "size", "one"], ["sum"]),
            helper.make_node("MatMul", ["sum", "c"], ["a"]),
            helper.make_node("If", ["yes"], ["y"], **branches),
        ],
        opset=20, n=np.array([2, 4]), yes=np.array(True),
    )  # fmt: skip
    found = bf16(source, io=io)
    assert FLOAT16 not in inferred(found).values()
    assert set(types(found).values()) == {BFLOAT16, TensorProto.INT64, TensorProto.BOOL}
    end = FLOAT if io == "declared" else BFLOAT16
    ends = (*found.graph.input, *found.graph.output)
    assert [one.type.tensor_type.elem_type for one in ends] == [end, end]
    assert sorted(casts(found)) == ([FLOAT, BFLOAT16, BFLOAT16] if io == "declared" else [BFLOAT16])
    (large,) = (one.attribute[0].t for one in found.graph.node if one.output[0] == "one")
    assert float(numpy_helper.to_array(large)) == pytest.approx(1e5, rel=2**-8)


def test_kept_nodes_compute_in_fp32() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="a"),
        helper.make_node("Softmax", ["a"], ["b"], name="b"),
        helper.make_node("MatMul", ["b", "v"], ["y"], name="y"),
    ]
    found = bf16(model(nodes, w=WEIGHT, v=WEIGHT), keep_operators=("Softmax",), keep_nodes=("y",))
    kinds = inferred(found)
    made = {one.op_type: one for one in found.graph.node}
    assert kinds[made["Softmax"].input[0]] == kinds[made["Softmax"].output[0]] == FLOAT
    assert types(found) == {"w": BFLOAT16, "v": FLOAT}


def mixed() -> ModelProto:
    """fp32 to fp16 and back, with a weight in each, and a bf16 one beside."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Cast", ["a"], ["low"], to=FLOAT16),
        helper.make_node("MatMul", ["low", "half"], ["b"]),
        helper.make_node("Cast", ["b"], ["high"], to=FLOAT),
        helper.make_node("Cast", ["brain"], ["scale"], to=FLOAT),
        helper.make_node("Mul", ["high", "scale"], ["y"]),
    ]
    return model(
        nodes, w=WEIGHT, half=WEIGHT.astype(np.float16), brain=WEIGHT[0].astype(ml_dtypes.bfloat16)
    )


def test_what_was_fp16_before_stays_fp16() -> None:
    found = bf16(mixed())
    assert types(found) == {"w": BFLOAT16, "half": FLOAT16, "brain": BFLOAT16}
    kinds = inferred(found)
    assert (kinds["a"], kinds["low"], kinds["b"], kinds["high"]) == (
        BFLOAT16,
        FLOAT16,
        FLOAT16,
        BFLOAT16,
    )
    stored = {one.name: one.raw_data for one in mixed().graph.initializer}
    for tensor in found.graph.initializer:
        if tensor.name != "w":
            assert tensor.raw_data == stored[tensor.name]


def test_in_fp16_what_was_bf16_before_stays_bf16() -> None:
    found = convert(mixed(), PrecisionMode.FP16, LoweringOptions(), name="test.onnx")
    assert types(found) == {"w": FLOAT16, "half": FLOAT16, "brain": BFLOAT16}
    inferred(found)


def test_an_fp16_model_cannot_be_made_bf16() -> None:
    source = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        (FLOAT16, FLOAT16),
        w=WEIGHT.astype(np.float16),
    )
    with pytest.raises(
        EngineBuildError,
        match=r"^test.onnx is a float16 model, which cannot be made bf16; build it from the fp32 model$",
    ):
        bf16(source)


def test_a_bf16_model_passes_through() -> None:
    once = bf16(model([helper.make_node("MatMul", ["x", "w"], ["y"])], w=WEIGHT))
    assert bf16(once).SerializeToString() == once.SerializeToString()


@pytest.mark.parametrize("opset", [11, 17])
def test_tensorrt_builds_it(tmp_path: Path, opset: int) -> None:
    """Below opset 13 ONNX does not know bf16 in a MatMul; TensorRT does."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="a"),
        helper.make_node("Softmax", ["a"], ["b"], name="b", axis=-1),
        helper.make_node("MatMul", ["b", "w"], ["y"], name="y"),
    ]
    found = bf16(model(nodes, opset=opset, w=WEIGHT), keep_operators=("Softmax",))
    onnx.save(found, tmp_path / "model.onnx")
    assert build(tmp_path / "model.onnx")


def test_tensorrt_builds_it_with_its_weights_in_a_file_of_their_own(tmp_path: Path) -> None:
    weight = np.random.RandomState(0).randn(4, 4096).astype(np.float32)
    lowered = bf16(model([helper.make_node("MatMul", ["x", "w"], ["y"], name="y")], w=weight))
    (tmp_path / "whole").mkdir()
    onnx.save(lowered, tmp_path / "whole" / "model.onnx")
    temporary = tmp_path / ".model.onnx.00000000.tmp"
    assert model_file.save(lowered, temporary, "model.onnx", limit=4096).data
    assert build(temporary.rename(tmp_path / "model.onnx")) == build(
        tmp_path / "whole" / "model.onnx"
    )


def test_a_request_is_answered_in_the_types_of_json(tmp_path: Path) -> None:
    onnx_models.write_small(tmp_path / "small.onnx", seed=1)
    output = tmp_path / ".small_bf16.onnx.00000000.tmp"
    request = {
        "model": str(tmp_path / "small.onnx"),
        "output": str(output),
        "artifact": "small_bf16.onnx",
        "options": LoweringOptions(keep_nodes=("head",)).as_dict(),
        "calibration": None,
    }
    reply = json.loads(json.dumps(lower(request)))
    assert set(reply) == {"sha256", "versions", "data"}
    assert reply["versions"]["ml_dtypes"] == ml_dtypes.__version__
    assert types(onnx.load(output)) == {"kernel": BFLOAT16, "matrix": FLOAT}
