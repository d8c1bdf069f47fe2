"""Lowering to int8: scales to the bit, weights in int8, and what ONNX Runtime makes of it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from enginery import (
    BackboneSpec,
    CalibrationCacheError,
    EngineBuildError,
    EngineCompiler,
    EngineCompileRequest,
    HostCapabilities,
    PrecisionMode,
    worker,
)
from enginery.calibration.cache import CalibrationCache, write_cache
from enginery.digest import sha256_file
from enginery.lowering import int8, model_file
from enginery.runtimes import load_runtime

RANDOM = np.random.RandomState(0)
IMAGE = RANDOM.randn(2, 3, 8, 8).astype(np.float32)


def node(operator: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output], output, **attributes)


def weight(*shape: int) -> Any:
    size = np.sqrt(np.prod(shape[1:]) or 1)
    return (np.random.RandomState(sum(shape)).randn(*shape) / size).astype(np.float32)


def model(
    nodes: list[onnx.NodeProto],
    *,
    outputs: str = "y",
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
    **stored: Any,
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", kind, [2, 3, 8, 8])],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs.split()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def network(**more: Any) -> ModelProto:
    """Convolutions with and without batch normalization, a residual, a product and its bias."""
    nodes = [
        node("Conv", "x k1", "a", pads=[1] * 4),
        node("BatchNormalization", "a gain shift mean variance", "b"),
        node("Relu", "b", "c"),
        node("Conv", "c k2 bias2", "d", pads=[1] * 4),
        node("Add", "d c", "e"),
        node("Relu", "e", "f"),
        node("GlobalAveragePool", "f", "g"),
        node("Flatten", "g", "h"),
        node("Gemm", "h m3 bias3", "i", transB=1),
        node("Relu", "i", "j"),
        node("MatMul", "j m4", "y"),
    ]
    stored = {
        "k1": weight(8, 3, 3, 3),
        "gain": np.abs(weight(8)) + 1,
        "shift": weight(8),
        "mean": weight(8) / 2,
        "variance": np.abs(weight(8)) + 0.5,
        "k2": weight(8, 8, 3, 3),
        "bias2": weight(8),
        "m3": weight(16, 8),
        "bias3": weight(16),
        "m4": weight(16, 5),
    }
    return model(nodes, **{**stored, **more})


ACTIVATIONS = ["x", "c", "h", "j"]


def run(found: ModelProto, outputs: list[str] | None = None) -> list[Any]:
    kind = found.graph.input[0].type.tensor_type.elem_type
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(found.SerializeToString(), options)
    return session.run(outputs, {"x": IMAGE.astype(helper.tensor_dtype_to_np_dtype(kind))})


def scales_of(source: ModelProto, names: list[str]) -> dict[str, float]:
    """The scales that the largest magnitude on IMAGE gives."""
    seen = ModelProto()
    seen.CopyFrom(source)
    kind = source.graph.input[0].type.tensor_type.elem_type
    inner = [name for name in names if name != "x"]
    for name in inner:
        if name not in {each.name for each in seen.graph.output}:
            seen.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    found = {"x": IMAGE, **dict(zip(inner, run(seen, inner) if inner else [], strict=True))}
    return {name: float(np.float32(np.abs(found[name]).max() / 127)) for name in names}


def lower(
    tmp_path: Path, source: ModelProto, scales: Mapping[str, float], **options: Any
) -> ModelProto:
    onnx.save(source, tmp_path / "model.onnx")
    cache = CalibrationCache("EntropyCalibration2", 100300, scales)
    (tmp_path / "cache").write_bytes(write_cache(cache))
    output = tmp_path / "lowered.onnx"
    output.unlink(missing_ok=True)
    reply = int8.lower(
        {
            "model": str(tmp_path / "model.onnx"),
            "output": str(output),
            "artifact": "model_int8.onnx",
            "calibration": str(tmp_path / "cache"),
            "options": options,
        }
    )
    assert set(reply) == {"sha256", "versions", "data"}
    lowered = onnx.load(output)
    shaped = onnx.shape_inference.infer_shapes(lowered, check_type=True, strict_mode=True)
    onnx.checker.check_model(shaped)
    return lowered


def values(found: ModelProto) -> dict[str, Any]:
    return {each.name: numpy_helper.to_array(each) for each in found.graph.initializer}


def quantized(found: ModelProto) -> dict[str, Any]:
    """Tensor to scale, of every QuantizeLinear."""
    stored = values(found)
    return {
        n.input[0]: stored[n.input[1]] for n in found.graph.node if n.op_type == "QuantizeLinear"
    }


def snr(exact: Any, found: Any) -> float:
    exact, found = exact.astype(np.float64), found.astype(np.float64)
    return float(10 * np.log10((exact**2).sum() / ((exact - found) ** 2).sum()))


@pytest.mark.parametrize("rest", ["fp32", "fp16"])
@pytest.mark.parametrize("opset", [9, 13, 17, 21])
def test_scales_weights_and_results(tmp_path: Path, rest: str, opset: int) -> None:
    source = network(opset=opset)
    scales = scales_of(source, ACTIVATIONS)
    lowered = lower(tmp_path, source, scales, int8_with=rest)
    kind = {"fp32": np.float32, "fp16": np.float16}[rest]
    found = list(quantized(lowered).values())
    assert [scale.dtype for scale in found] == [kind] * 4
    # In fp32 they are the cache's own, bit for bit.
    assert sorted(map(float, found)) == sorted(float(kind(scale)) for scale in scales.values())
    stored = values(lowered)
    large = [name for name, array in stored.items() if array.ndim > 1]
    assert all(stored[name].dtype == np.int8 for name in large)
    assert len(large) == 4
    assert not any(array.dtype == np.int32 for array in stored.values())
    assert Counter(n.op_type for n in lowered.graph.node)["BatchNormalization"] == 0
    assert snr(run(source)[0], run(lowered)[0]) > 25


SCALES = [2.0**-149, 1e-40, 2.0**-126, 1e-7, 1 / 3, 0.1, 1.1754943e-38, 3.4e38, 1e30]


@pytest.mark.parametrize("scale", [float(np.float32(scale)) for scale in SCALES])
def test_the_strangest_scales_stay_what_they_are(tmp_path: Path, scale: float) -> None:
    source = model([node("Conv", "x k", "y")], k=weight(4, 3, 3, 3))
    (found,) = quantized(lower(tmp_path, source, {"x": scale}, int8_with="fp32")).values()
    assert found.tobytes() == np.float32(scale).tobytes()
    (found,) = quantized(lower(tmp_path, source, {"x": scale}, int8_with="fp16")).values()
    assert 0 < found <= 65504


def test_random_scales_stay_what_they_are(tmp_path: Path) -> None:
    scales = np.exp(RANDOM.uniform(-12, 4, 300)).astype(np.float32)
    names = ["x", *(f"t{i}" for i in range(299))]
    nodes = [node("Conv", f"{a} k", b) for a, b in zip(names, [*names[1:], "y"], strict=True)]
    source = model(nodes, k=weight(3, 3, 1, 1))
    wanted = dict(zip(names, map(float, scales), strict=True))
    found = quantized(lower(tmp_path, source, wanted, int8_with="fp32"))
    assert {name: float(scale) for name, scale in found.items()} == wanted


def test_weights_have_a_scale_for_each_channel(tmp_path: Path) -> None:
    kernel = weight(4, 3, 3, 3) * np.array([1, 1e-3, 1e-6, 0], np.float32).reshape(4, 1, 1, 1)
    source = model([node("Conv", "x k", "y")], k=kernel)
    for rest in ("fp32", "fp16"):
        stored = values(lower(tmp_path, source, {"x": 0.05}, int8_with=rest))
        scale = stored["k_scale"].astype(np.float64).reshape(4, 1, 1, 1)
        assert (scale > 0).all()
        error = np.abs(stored["k_quantized"] * scale - kernel)
        assert (error <= 0.51 * scale).all()
        assert np.abs(stored["k_quantized"]).max(axis=(1, 2, 3))[:2].tolist() == [127, 127]


def test_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    lower(tmp_path, network(), scales_of(network(), ACTIVATIONS))
    digests = set()
    for seed in "012":
        request = {
            "model": str(tmp_path / "model.onnx"),
            "output": str(tmp_path / f"again{seed}.onnx"),
            "artifact": "model_int8.onnx",
            "calibration": str(tmp_path / "cache"),
        }
        entry = "enginery.lowering.int8:lower"
        reply = worker.run(entry, request, environment={"PYTHONHASHSEED": seed})
        digests.add(reply["sha256"])
    assert digests == {sha256_file(tmp_path / "lowered.onnx")}


def test_kept_nodes_stay_and_read_exact_values(tmp_path: Path) -> None:
    source = network()
    scales = scales_of(source, ACTIVATIONS)
    lowered = lower(tmp_path, source, scales, int8_with="fp32", keep_nodes=["d", "e"])
    readers = {n.name: list(n.input) for n in lowered.graph.node}
    assert readers["d"] == ["c", "k2", "bias2"]
    assert readers["e"] == ["d", "c"]
    assert quantized(lowered).keys() == {"x", "h", "j"}
    lowered = lower(tmp_path, source, scales, keep_operators=["Gemm", "BatchNormalization"])
    assert quantized(lowered).keys() >= {"c", "j"}
    assert len(quantized(lowered)) == 3
    assert "BatchNormalization" in {n.op_type for n in lowered.graph.node}
    with pytest.raises(EngineBuildError, match="no node 'nobody'"):
        lower(tmp_path, source, scales, int8_with="fp32", keep_nodes=["nobody"])


@pytest.mark.parametrize("rest", ["fp16", "fp32"])
def test_what_is_kept_may_be_gone_once_the_model_is_prepared(tmp_path: Path, rest: str) -> None:
    nodes = [
        node("Flatten", "x", "flat"),
        node("Constant", "", "constant", value=numpy_helper.from_array(weight(192, 7))),
        node("Identity", "constant", "same"),
        node("MatMul", "flat same", "p"),
        node("Transpose", "w", "turned"),
        node("MatMul", "p turned", "y"),
    ]
    source = model(nodes, w=weight(4, 7))
    kept = {"keep_operators": ["Constant", "Identity"], "keep_nodes": ["turned"]}
    scales = scales_of(source, ["flat", "p"])
    lowered = lower(tmp_path, source, scales, int8_with=rest, **kept)
    assert quantized(lowered).keys() == {"flat", "p"}
    assert snr(run(source)[0], run(lowered)[0]) > 25
    with pytest.raises(EngineBuildError, match=r"no operator 'identity'.* nearest is 'Identity'"):
        lower(tmp_path, source, scales, int8_with=rest, keep_operators=["identity"])


def test_an_output_that_is_quantized_too_stays_exact(tmp_path: Path) -> None:
    source = network(outputs="y c")
    lowered = lower(tmp_path, source, scales_of(source, ACTIVATIONS), int8_with="fp32")
    assert [each.name for each in lowered.graph.output] == ["y", "c"]
    made = {name: n.op_type for n in lowered.graph.node for name in n.output}
    assert made["c"] == "Relu"
    assert len(quantized(lowered)) == 4


def test_a_weight_that_others_read_stays_for_them(tmp_path: Path) -> None:
    nodes = [
        node("Flatten", "x", "flat"),
        node("MatMul", "flat w", "p"),
        node("Gemm", "p w", "q", transB=1),
        node("MatMul", "q w", "r"),
        node("Add", "w w", "s"),
        node("MatMul", "r s", "y"),
    ]
    source = model(nodes, w=weight(192, 192) / 4)
    names = ["flat", "p", "q"]
    lowered = lower(tmp_path, source, scales_of(source, names), int8_with="fp32")
    axes = {
        n.input[0]: n.attribute[0].i
        for n in lowered.graph.node
        if n.op_type == "DequantizeLinear" and n.attribute
    }
    assert sorted(axes.values()) == [0, 1]
    adder = next(n for n in lowered.graph.node if n.name == "s")
    assert list(adder.input) == ["w", "w"]
    assert snr(run(source)[0], run(lowered)[0]) > 25


def test_weights_behind_constants_identities_and_transposes(tmp_path: Path) -> None:
    kernel = numpy_helper.from_array(weight(192, 7))
    nodes = [
        node("Flatten", "x", "flat"),
        helper.make_node("Constant", [], ["constant"], value=kernel),
        node("Identity", "constant", "same"),
        node("MatMul", "flat same", "p"),
        node("Transpose", "w", "turned"),
        node("MatMul", "p turned", "y"),
    ]
    source = model(nodes, w=weight(4, 7))
    lowered = lower(tmp_path, source, scales_of(source, ["flat", "p"]), int8_with="fp32")
    assert {n.op_type for n in lowered.graph.node} == {
        "Flatten",
        "MatMul",
        "QuantizeLinear",
        "DequantizeLinear",
    }
    assert snr(run(source)[0], run(lowered)[0]) > 25


@pytest.mark.parametrize(
    ("operator", "attributes", "shape", "count"),
    [
        ("ConvTranspose", {}, (3, 4, 3, 3), 1),
        ("ConvTranspose", {"group": 3}, (3, 2, 3, 3), 0),
        ("Conv", {"group": 3}, (6, 1, 3, 3), 1),
    ],
)
def test_groups_and_transposed_convolutions(
    tmp_path: Path, operator: str, attributes: dict[str, int], shape: tuple[int, ...], count: int
) -> None:
    nodes = [node(operator, "x k", "a", **attributes), node("Conv", "a l", "y")]
    source = model(nodes, k=weight(*shape), l=weight(2, shape[1] if count else 6, 1, 1))
    if operator == "Conv":
        source = model(nodes, k=weight(*shape), l=weight(2, 6, 1, 1))
    lowered = lower(tmp_path, source, scales_of(source, ["x", "a"]), int8_with="fp32")
    assert len(quantized(lowered)) == 1 + count
    assert snr(run(source)[0], run(lowered)[0]) > 25


def test_a_scaled_bias_is_left_alone(tmp_path: Path) -> None:
    nodes = [
        node("Flatten", "x", "a"),
        node("Gemm", "a m b", "c", beta=0.5),
        node("Gemm", "c n", "y", alpha=2.0),
    ]
    source = model(nodes, m=weight(192, 6), b=10 * weight(6), n=weight(6, 6))
    lowered = lower(tmp_path, source, scales_of(source, ["a", "c"]), int8_with="fp32")
    assert quantized(lowered).keys() == {"c"}
    assert snr(run(source)[0], run(lowered)[0]) > 25


def test_nodes_without_names_and_with_the_same(tmp_path: Path) -> None:
    source = network()
    for each in source.graph.node:
        each.name = "same" if each.op_type == "Conv" else ""
    lowered = lower(tmp_path, source, scales_of(network(), ACTIVATIONS), int8_with="fp32")
    assert len(quantized(lowered)) == 4
    assert snr(run(network())[0], run(lowered)[0]) > 25


def test_a_model_in_fp16(tmp_path: Path) -> None:
    nodes = [node("Conv", "x k", "a"), node("Conv", "a l", "y")]
    stored = {"k": weight(4, 3, 3, 3), "l": weight(4, 4, 3, 3)}
    half = {name: array.astype(np.float16) for name, array in stored.items()}
    source = model(nodes, kind=TensorProto.FLOAT16, **half)
    lowered = lower(tmp_path, source, scales_of(source, ["x", "a"]))
    assert {scale.dtype.name for scale in quantized(lowered).values()} == {"float16"}
    assert snr(run(source)[0], run(lowered)[0]) > 25


def test_initializers_among_the_inputs(tmp_path: Path) -> None:
    source = network(opset=9)
    for each in source.graph.initializer:
        source.graph.input.append(
            helper.make_tensor_value_info(each.name, each.data_type, each.dims)
        )
    lowered = lower(tmp_path, source, scales_of(source, ACTIVATIONS))
    assert [each.name for each in lowered.graph.input] == ["x"]


def test_a_cache_of_another_model_is_refused(tmp_path: Path) -> None:
    scales = {**scales_of(network(), ACTIVATIONS), **{f"stranger{i}": 1.0 for i in range(5)}}
    with pytest.raises(CalibrationCacheError, match=r"'stranger0', .* and 2 more"):
        lower(tmp_path, network(), scales)


def test_tensors_of_tensorrt_and_of_the_whole_graph_are_known(tmp_path: Path) -> None:
    more = ["a", "b", "k1", "bias2", "y", "(Unnamed Layer* 12) [Constant]_output"]
    scales = {**scales_of(network(), ACTIVATIONS), **dict.fromkeys(more, 1.0)}
    assert len(quantized(lower(tmp_path, network(), scales))) == 4


def test_tensors_without_a_scale(tmp_path: Path) -> None:
    scales = scales_of(network(), ["x", "c", "h"])
    with pytest.raises(
        CalibrationCacheError, match="of 4 tensors to quantize, 1 have no scale: 'j'"
    ):
        lower(tmp_path, network(), scales)
    lowered = lower(tmp_path, network(), scales, uncovered_percent=25, int8_with="fp32")
    assert quantized(lowered).keys() == {"x", "c", "h"}
    with pytest.raises(CalibrationCacheError, match="4 have no scale: 'x', 'c', 'h' and 1 more"):
        lower(tmp_path, network(), {"y": 1.0}, uncovered_percent=100)


def test_models_that_cannot_be_quantized(tmp_path: Path) -> None:
    with pytest.raises(EngineBuildError, match="nothing to quantize"):
        lower(tmp_path, model([node("Relu", "x", "y")]), {"x": 1.0})
    source = model([node("Conv", "x k", "y")], k=weight(4, 3, 3, 3))
    with pytest.raises(EngineBuildError, match="quantized already"):
        lower(tmp_path, lower(tmp_path, source, {"x": 0.1}), {"x": 0.1})
    source.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(EngineBuildError, match="cannot be brought to 19"):
        lower(tmp_path, source, {"x": 0.1})


def test_attention_stays_in_floating_point(tmp_path: Path) -> None:
    nodes = [
        node("Flatten", "x", "a"),
        node("MatMul", "a m", "q"),
        node("Transpose", "q", "k"),
        node("MatMul", "q k", "y"),
    ]
    source = model(nodes, m=weight(192, 6))
    lowered = lower(tmp_path, source, scales_of(source, ["a"]), int8_with="fp32")
    assert quantized(lowered).keys() == {"a"}


def test_what_inner_graphs_read_stays_exact(tmp_path: Path) -> None:
    def branch(name: str, weight_name: str) -> Any:
        inner = [helper.make_node("Conv", ["c", weight_name], [name], name)]
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph(inner, name, [], [out])

    nodes = [
        node("Conv", "x k", "c"),
        node("Conv", "c l", "d"),
        node("If", "yes", "y", then_branch=branch("t", "l"), else_branch=branch("u", "k2")),
    ]
    source = model(
        nodes, outputs="y d", k=weight(4, 3, 3, 3), l=weight(4, 4, 3, 3), k2=weight(4, 4, 1, 1),
        yes=np.array(True),
    )  # fmt: skip
    lowered = lower(tmp_path, source, scales_of(source, ["x", "c"]), int8_with="fp32")
    (choice,) = (each for each in lowered.graph.node if each.op_type == "If")
    inner = {each.name: each.g.node[0] for each in choice.attribute}
    assert list(inner["then_branch"].input) == ["c", "l"]
    exact, found = run(source), run(lowered)
    assert min(map(snr, exact, found)) > 25


@pytest.mark.parametrize("rest", ["fp32", "fp16"])
@pytest.mark.parametrize("sm", [86, 89, 120])
def test_tensorrt_builds_it(tmp_path: Path, rest: str, sm: int) -> None:
    source = network()
    lower(tmp_path, source, scales_of(source, ACTIVATIONS), int8_with=rest)
    runtime = load_runtime("tensorrt_rtx")
    request = EngineCompileRequest(
        backbones=(BackboneSpec("model", tmp_path / "lowered.onnx", (2, 3, 8, 8), "x"),),
        calibration_path=None,
        cache_root=tmp_path / "engines",
        precision=PrecisionMode.FP32,
        host=HostCapabilities(sm, None, runtime.installed_version()),
        workspace_mb=64,
    )
    compiler = EngineCompiler(inference_runtime=runtime, logger=logging.getLogger("tests"))
    (result,) = compiler.compile_engines_for_corpus(request)
    assert result.entry.engine_path.stat().st_size > 0


def test_a_model_over_the_limit_has_a_data_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = model_file.save
    monkeypatch.setattr(model_file, "save", lambda *names: save(*names, limit=1 << 17))
    source = model([node("Flatten", "x", "a"), node("MatMul", "a m", "y")], m=weight(192, 1000))
    lowered = lower(tmp_path, source, scales_of(source, ["a"]))
    assert len(list(tmp_path.glob("model_int8.*.data"))) == 1
    assert snr(run(source)[0], run(lowered)[0]) > 25
