"""Engines of ONNX Runtime for the CPU of this machine: built, run and judged for real."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnx_models
import onnxruntime as ort
import pytest
from conftest import wait_for
from onnx import TensorProto, helper, numpy_helper

from enginery import (
    BackboneSpec,
    BackboneSpecError,
    BuilderOptions,
    CompileOutcome,
    ElsewhereError,
    EngineBuildError,
    EngineCompiler,
    EngineCompileRequest,
    HostCapabilities,
    HostError,
    InputChangedError,
    OptimizationProfile,
    PrecisionMode,
    load_runtime,
    read_verified,
)
from enginery.config import MemoryPools
from enginery.digest import write_hashed
from enginery.host import Gpu, Host
from enginery.inputs import InputDigests
from enginery.plan import EnginePlan
from enginery.probing.cpu import level
from enginery.recipe import differences
from enginery.runtimes import onnxruntime_build, onnxruntime_tensorrt
from enginery.runtimes.onnxruntime_runner import runner, words
from enginery.runtimes.profiles import ProfileRange

RUNTIME = load_runtime("onnxruntime")
VERSION = RUNTIME.installed_version()
HERE = Host(source="probed", cpu=level())
SHAPE = (1, 3, 16, 16)
CALIBRATION = "TRT-100300-EntropyCalibration2\n" + "".join(
    f"{name}: {scale}\n"
    for name, scale in {
        "input": "3d010204",
        "features": "3e810204",
        "pooled": "3d810204",
        "flat": "3d810204",
        "output": "3e010204",
    }.items()
)


@pytest.fixture
def request_(tmp_path: Path) -> EngineCompileRequest:
    model = tmp_path / "small.onnx"
    onnx_models.write_small(model, seed=1)
    (tmp_path / "small.calib").write_text(CALIBRATION)
    return EngineCompileRequest(
        backbones=(BackboneSpec("small", model, SHAPE),),
        calibration_path=tmp_path / "small.calib",
        cache_root=tmp_path / "engines",
        precision=PrecisionMode.FP32,
        host=RUNTIME.resolve(None, None, None, lambda: HERE),
        lowered_root=tmp_path / "lowered",
        build_host=HERE,
    )


def compiled(request: EngineCompileRequest) -> tuple[Path, CompileOutcome]:
    compiler = EngineCompiler(inference_runtime=RUNTIME, logger=logging.getLogger("tests"))
    (result,) = compiler.compile_engines_for_corpus(request)
    return result.entry.engine_path, result.outcome


def built(request: EngineCompileRequest) -> bytes:
    path, outcome = compiled(request)
    assert outcome is CompileOutcome.BUILT
    return read_verified(path)


def with_spec(request: EngineCompileRequest, **change: Any) -> EngineCompileRequest:
    return replace(request, backbones=(replace(request.backbones[0], **change),))


def random_input(batch: int = 1) -> np.ndarray[Any, Any]:
    return np.random.RandomState(7).randn(batch, *SHAPE[1:]).astype(np.float32)


def run_engine(engine: bytes, batch: int = 1) -> np.ndarray[Any, Any]:
    with runner(engine) as active:
        outputs: dict[str, np.ndarray[Any, Any]] = active.infer({"input": random_input(batch)})
    return outputs["output"]


def run_as_it_is(model: Path, batch: int = 1) -> np.ndarray[Any, Any]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    output, *_ = session.run(None, {"input": random_input(batch)})
    return np.asarray(output)


def test_the_name_says_cpu_and_version(request_: EngineCompileRequest) -> None:
    path, _ = compiled(request_)
    assert path.name == f"small_cpu-{level()}_nojp_ort{VERSION}_fp32.engine"


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [(PrecisionMode.FP32, 1e-5), (PrecisionMode.FP16, 2e-2), (PrecisionMode.INT8, 2e-2)],
)
def test_an_engine_computes_what_its_model_does(
    request_: EngineCompileRequest, precision: PrecisionMode, tolerance: float
) -> None:
    engine = built(replace(request_, precision=precision))
    lowered = request_.lowered_root / f"small_{precision}.onnx"  # type: ignore[operator]
    model = lowered if lowered.exists() else request_.backbones[0].onnx_path
    assert lowered.exists() == (precision is not PrecisionMode.FP32)
    expected = run_as_it_is(model)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(run_engine(engine), expected, atol=tolerance)


def test_an_engine_is_optimized(request_: EngineCompileRequest) -> None:
    model = request_.backbones[0].onnx_path
    proto = onnx.load(model)
    proto.graph.node.insert(1, helper.make_node("Relu", ["features"], ["positive"], name="relu"))
    proto.graph.node[2].input[0] = "positive"
    onnx.save(proto, model)
    nodes = [node.op_type for node in onnx.load_from_string(built(request_)).graph.node]
    assert "Relu" not in nodes, "it is part of the convolution"


def test_a_hit_starts_no_process(
    request_: EngineCompileRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = compiled(request_)
    before = path.read_bytes(), path.stat().st_mtime_ns

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", forbidden)
    assert compiled(request_) == (path, CompileOutcome.REUSED)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_the_parent_imports_no_vendor_library() -> None:
    program = (
        "import sys, enginery\n"
        "runtime = enginery.load_runtime('onnxruntime')\n"
        "from enginery.host import Host\n"
        "host = Host(source='test', cpu='x86-64-v3')\n"
        "target = runtime.resolve(None, None, None, lambda: host)\n"
        "runtime.toolchain(target), runtime.elsewhere(target, host)\n"
        "print({'onnxruntime', 'onnx', 'numpy', 'polygraphy'}.intersection(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_the_same_inputs_give_the_same_bytes(request_: EngineCompileRequest) -> None:
    """ONNX Runtime writes this one differently each time: it has nodes that are put in."""
    onnx_models.write_slow(request_.backbones[0].onnx_path)
    dense = with_spec(
        request_, input_name=onnx_models.SLOW_INPUT, expected_input_shape=(1, 3, 224, 224)
    )
    engine = built(dense)
    own = {node.name for node in onnx.load(request_.backbones[0].onnx_path).graph.node}
    graph = onnx.load_from_string(engine).graph
    assert any(node.name not in own for node in graph.node)
    assert [value.name for value in graph.input] == [onnx_models.SLOW_INPUT], "weights are none"
    assert built(replace(dense, cache_root=request_.cache_root / "again")) == engine


Array = np.ndarray[Any, Any]


def write_graph(
    path: Path, nodes: list[onnx.NodeProto], weights: dict[str, Array], outputs: list[str]
) -> None:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, list(SHAPE))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def kernel(seed: int, channels: int = 3) -> Array:
    return (np.random.RandomState(seed).randn(8, channels, 3, 3) * 0.1).astype(np.float32)


def many_outputs(path: Path) -> None:
    """Which of the nodes that are put in before the outputs is written first, differs."""
    convolutions = [helper.make_node("Conv", ["input", f"k{i}"], [f"c{i}"]) for i in range(8)]
    outputs = [f"out{i}" for i in range(8)]
    ends = [helper.make_node("Tanh", [f"c{i}"], [name]) for i, name in enumerate(outputs)]
    weights = {f"k{i}": kernel(i) for i in range(8)}
    write_graph(path, [*convolutions, *ends], weights, outputs)


def branches(path: Path) -> None:
    """Convolutions in both branches; each reads the input outside and has names of the other."""

    def branch(operator: str, output: str) -> onnx.GraphProto:
        nodes = [helper.make_node("Conv", ["input", "k0"], ["a0"])]
        for i in range(1, 5):
            nodes += [
                helper.make_node(operator, [f"a{i - 1}"], [f"r{i}"]),
                helper.make_node("Conv", [f"r{i}", f"k{i}"], [f"a{i}" if i < 4 else output]),
            ]
        weights = [numpy_helper.from_array(kernel(i, 8 if i else 3), f"k{i}") for i in range(5)]
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        return helper.make_graph(nodes, operator, [], [result], weights)

    nodes = [
        helper.make_node("ReduceSum", ["input"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node(
            "If",
            ["positive"],
            ["output"],
            then_branch=branch("Tanh", "yes"),
            else_branch=branch("Sin", "no"),
        ),
    ]
    write_graph(path, nodes, {"zero": np.zeros((), np.float32)}, ["output"])


@pytest.mark.parametrize("write", [many_outputs, branches])
def test_order_and_names_follow_from_the_graph(
    request_: EngineCompileRequest, write: Callable[[Path], None]
) -> None:
    """ONNX Runtime itself writes another file of these nearly each time."""
    model = request_.backbones[0].onnx_path
    write(model)
    engine = built(request_)
    with runner(engine) as active:
        outputs = active.infer({"input": random_input()})
    first = "output" if "output" in outputs else "out0"
    np.testing.assert_allclose(outputs[first], run_as_it_is(model), atol=1e-4)
    again = {built(replace(request_, cache_root=request_.cache_root / str(i))) for i in range(4)}
    assert again == {engine}


def test_invented_names_are_new_in_the_whole_engine(request_: EngineCompileRequest) -> None:
    model = request_.backbones[0].onnx_path
    branches(model)
    graph = onnx.load_from_string(built(request_)).graph
    inner = [one.g for node in graph.node for one in node.attribute if one.HasField("g")]
    assert len(inner) == 2
    names = [node.name for one in (graph, *inner) for node in one.node if node.name]
    assert len(names) > 8
    assert len(set(names)) == len(names)
    weights = [tensor.name for one in inner for tensor in one.initializer]
    assert len(set(weights)) == len(weights) == 10


def test_invented_names_are_none_of_the_source(request_: EngineCompileRequest) -> None:
    """Exporters, too, name nodes by operator and place, and values by number."""
    model = request_.backbones[0].onnx_path
    nodes = [
        helper.make_node("Conv", ["input", "value_0"], ["value_1"], name="Conv_5"),
        helper.make_node("Relu", ["value_1"], ["Conv_0_1"], name="Relu_6"),
        helper.make_node("Tanh", ["Conv_0_1"], ["output"], name="Conv_0"),
    ]
    write_graph(model, nodes, {"value_0": kernel(0)}, ["output"])
    engine = built(request_)
    np.testing.assert_allclose(run_engine(engine), run_as_it_is(model), atol=1e-5)
    graph = onnx.load_from_string(engine).graph
    names = {node.op_type: node.name for node in graph.node}
    assert names.pop("Tanh") == "Conv_0"
    assert names.pop("Conv") == "Conv_0_2"
    assert [tensor.name for tensor in graph.initializer] == ["value_0_1"]


def test_external_data_is_taken_in(request_: EngineCompileRequest, tmp_path: Path) -> None:
    (tmp_path / "apart").mkdir()
    model = tmp_path / "apart" / "model.onnx"
    onnx_models.write_small(model, seed=1, weights="weights.bin")
    engine = built(with_spec(request_, onnx_path=model))
    expected = run_as_it_is(model)
    shutil.rmtree(tmp_path / "apart")
    np.testing.assert_allclose(run_engine(engine), expected, atol=1e-5)
    assert not any(
        tensor.external_data for tensor in onnx.load_from_string(engine).graph.initializer
    )


def test_dynamic_shapes(request_: EngineCompileRequest) -> None:
    model = request_.backbones[0].onnx_path
    onnx_models.write_small(model, seed=1, batch="N")
    ranges = tuple(
        OptimizationProfile("input", (low, *SHAPE[1:]), (low, *SHAPE[1:]), (high, *SHAPE[1:]), i)
        for i, (low, high) in enumerate([(1, 4), (4, 16)])
    )
    engine = built(with_spec(request_, profiles=ranges))
    for batch in (1, 5):
        np.testing.assert_allclose(run_engine(engine, batch), run_as_it_is(model, batch), atol=1e-5)


def test_one_shape_is_the_only_one(request_: EngineCompileRequest) -> None:
    """As in TensorRT: what the profile leaves no choice of is no longer open."""
    model = request_.backbones[0].onnx_path
    onnx_models.write_small(model, seed=1, batch="N")
    engine = built(request_)
    np.testing.assert_allclose(run_engine(engine), run_as_it_is(model), atol=1e-5)
    with runner(engine) as active, pytest.raises(EngineBuildError, match="the engine does not run"):
        active.infer({"input": random_input(2)}, check_inputs=False)


@pytest.mark.skipif(not level().startswith("x86"), reason="only x86's kernels saturate")
def test_quantized_products_do_not_saturate(request_: EngineCompileRequest, tmp_path: Path) -> None:
    """Unsigned times signed saturates on a CPU without VNNI, so the weights become unsigned."""
    write_quantized(tmp_path / "quantized.onnx")
    engine = built(
        with_spec(request_, onnx_path=tmp_path / "quantized.onnx", expected_input_shape=(4, 64))
    )
    with runner(engine) as active:
        outputs = active.infer({"input": np.full((4, 64), 255, np.float32)})
    assert (outputs["output"] == 64 * 255 * 127).all()
    graph = onnx.load_from_string(engine).graph
    (product,) = [node for node in graph.node if node.op_type == "QLinearMatMul"]
    weights = {tensor.name: tensor.data_type for tensor in graph.initializer}
    # Earlier versions (1.23) leave signed what will not saturate on this CPU.
    earlier = tuple(map(int, VERSION.split(".")[:2])) < (1, 32)
    if not (earlier and "vnni" in level()):
        assert weights[product.input[3]] == TensorProto.UINT8


def write_quantized(path: Path) -> None:
    values: dict[str, np.ndarray[Any, Any]] = {
        "one": np.ones((), np.float32),
        "zero": np.zeros((), np.uint8),
        "weights": np.full((64, 8), 127, np.int8),
        "middle": np.zeros((), np.int8),
        "scale": np.full((), 64 * 127, np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "one", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "one", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["weights", "one", "middle"], ["w"]),
        helper.make_node("MatMul", ["d", "w"], ["product"]),
        helper.make_node("QuantizeLinear", ["product", "scale", "zero"], ["pq"]),
        helper.make_node("DequantizeLinear", ["pq", "scale", "zero"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "quantized",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [4, 64])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def test_another_version_or_cpu_is_another_engine(request_: EngineCompileRequest) -> None:
    path, _ = compiled(request_)
    spec, inputs = request_.backbones[0], InputDigests()
    now = EnginePlan(spec, request_, RUNTIME)
    assert now.judge(inputs).fresh
    changes = {
        f"trt: {VERSION} -> 1.0.0": (
            replace(request_.host, trt="1.0.0"), [f"onnxruntime: {VERSION} -> 1.0.0"]
        ),
        f"cpu: {level()} -> vax": (replace(request_.host, cpu="vax"), [f"cpu: {level()} -> vax"]),
    }  # fmt: skip
    for change, (host, differences_) in changes.items():
        other = EnginePlan(spec, replace(request_, host=host), RUNTIME)
        assert f"{path.name} is there ({change})" in other.judge(inputs).reason
        assert list(differences(now.recipe(inputs), other.recipe(inputs))) == differences_


def test_elsewhere(request_: EngineCompileRequest) -> None:
    other = replace(request_, build_host=Host(source="test", cpu="vax"))
    with pytest.raises(ElsewhereError, match=f"it needs the CPU {level()}, this host is vax"):
        compiled(other)
    old = replace(request_, host=replace(request_.host, trt="1.0.0"))
    with pytest.raises(ElsewhereError, match=rf"it needs ONNX Runtime 1\.0\.0, .* has {VERSION}"):
        compiled(old)
    assert list(request_.cache_root.iterdir()) == []


def test_a_host_that_is_declared_builds_nothing_for_another_cpu(
    request_: EngineCompileRequest,
) -> None:
    declared = Host(source="ENGINERY_HOST", cpu="vax")
    request = replace(request_, host=replace(request_.host, cpu="vax"), build_host=declared)
    with pytest.raises(EngineBuildError, match=f"the CPU vax, this machine's is {level()}"):
        compiled(request)
    assert list(request_.cache_root.iterdir()) == []


def garbage(path: Path) -> None:
    path.write_bytes(b"\x0anot an ONNX model")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def unknown_operator(path: Path) -> None:
    onnx_models.write_single(path, "Nonsense")


def new_opset(path: Path) -> None:
    onnx_models.write_small(path, seed=1)
    model = onnx.load(path)
    model.opset_import[0].version = 999
    onnx.save(model, path)


def bf16(path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["input"], ["narrow"], to=TensorProto.BFLOAT16),
            helper.make_node("MatMul", ["narrow", "narrow"], ["product"]),
            helper.make_node("Cast", ["product"], ["output"], to=TensorProto.FLOAT),
        ],
        "bf16",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, list(SHAPE))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )


def text_input(path: Path) -> None:
    onnx_models.write_single(path, "Identity")
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (garbage, r"^small\.onnx is no ONNX model: .*; it is damaged, export it again$"),
        (empty, r"^small\.onnx holds no network"),
        (unknown_operator, r"^ONNX Runtime refused small\.onnx: .*No Op registered for Nonsense"),
        (new_opset, r"^ONNX Runtime refused small\.onnx: Load model from small\.onnx failed:ONNX Runtime only .*Opset 999 is"),
        (bf16, r"^ONNX Runtime refused small\.onnx: .*[Cc]ould not find an implementation for MatMul"),
        (text_input, "^input 'input' is no tensor of numbers"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_bad_models(request_: EngineCompileRequest, write: Any, said: str) -> None:
    write(request_.backbones[0].onnx_path)
    with pytest.raises(EngineBuildError, match=said) as raised:
        compiled(request_)
    assert "\n" not in str(raised.value)
    assert str(request_.backbones[0].onnx_path) not in str(raised.value)
    assert list(request_.cache_root.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"input_name": "image"}, "input_name", "no input 'image'; the graph's inputs are: input float [?, 3, 16, 16]"),
        ({"expected_input_shape": (1, 3, 16)}, "expected_input_shape", "[1, 3, 16] does not fit input 'input'"),
        ({"expected_input_shape": (1, 3, 16, 17)}, "expected_input_shape", "does not fit input 'input'"),
        ({"profiles": (OptimizationProfile("input", (4, 3, 16, 16), SHAPE, SHAPE),)}, "profiles", "are not in order"),
    ],
)  # fmt: skip
def test_profiles_that_do_not_fit(
    request_: EngineCompileRequest, change: dict[str, Any], field: str, words: str
) -> None:
    onnx_models.write_small(request_.backbones[0].onnx_path, seed=1, batch="N")
    with pytest.raises(BackboneSpecError) as raised:
        compiled(with_spec(request_, **change))
    assert words in str(raised.value)
    assert raised.value.field == field
    assert list(request_.cache_root.iterdir()) == []


def divided(path: Path) -> None:
    write_by_input(path, TensorProto.INT64, [2, 3], ["thirty", "input"], "Div")


def remainder(path: Path) -> None:
    write_by_input(path, TensorProto.INT32, [2, 3], ["thirty", "input"], "Mod")


def steps(path: Path) -> None:
    write_by_input(path, TensorProto.INT64, [], ["one", "thirty", "input"], "Range")


def reshaped(path: Path) -> None:
    write_by_input(path, TensorProto.INT64, [2], ["six", "input"], "Reshape", allowzero=1)


def cast_from(kind: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        write_by_input(path, kind, [2, 3], ["input"], "Cast", to=TensorProto.FLOAT)

    write.__name__ = TensorProto.DataType.Name(kind)
    return write


def write_by_input(
    path: Path, kind: int, shape: list[int], reads: list[str], operator: str, **attributes: Any
) -> None:
    of_integers = np.int32 if kind == TensorProto.INT32 else np.int64
    weights = {
        "one": np.ones((), of_integers),
        "six": np.arange(6, dtype=np.float32),
        "thirty": np.full((), 30, of_integers),
    }
    graph = helper.make_graph(
        [helper.make_node(operator, reads, ["output"], name="only", **attributes)],
        "by input",
        [helper.make_tensor_value_info("input", kind, shape)],
        [onnx.ValueInfoProto(name="output")],
        [numpy_helper.from_array(weights[name], name) for name in reads if name in weights],
    )
    opset = [helper.make_opsetid("", 21)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)


@pytest.mark.parametrize(
    ("write", "shape"),
    [
        (divided, (2, 3)),
        (remainder, (2, 3)),
        (steps, ()),
        (reshaped, (2,)),
        (cast_from(TensorProto.BFLOAT16), (2, 3)),
        (cast_from(TensorProto.FLOAT8E4M3FN), (2, 3)),
        (cast_from(TensorProto.INT4), (2, 3)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_model_that_does_not_run_on_zeros(
    request_: EngineCompileRequest, write: Callable[[Path], None], shape: tuple[int, ...]
) -> None:
    """Or on what numpy has no type for; it is built all the same."""
    write(request_.backbones[0].onnx_path)
    assert built(with_spec(request_, expected_input_shape=shape))


def test_an_engine_that_cannot_be_loaded_is_refused(
    request_: EngineCompileRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that loses what is written to it."""

    def lossy(path: Path, data: bytes) -> str:
        return write_hashed(path, data[: len(data) // 2])

    monkeypatch.setattr(onnxruntime_build, "write_hashed", lossy)
    with pytest.raises(EngineBuildError, match=r"^the engine cannot be loaded: "):
        onnxruntime_build.build(child_request(request_, tmp_path / "out"))


def test_missing_external_data(request_: EngineCompileRequest, tmp_path: Path) -> None:
    """Reached only where the data goes after it was hashed, so the build is called by itself."""
    model = request_.backbones[0].onnx_path
    onnx_models.write_small(model, seed=1, weights="weights.bin")
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(EngineBuildError, match=r"^ONNX Runtime refused small\.onnx: .*weights"):
        onnxruntime_build.build(child_request(request_, tmp_path / "out"))


def test_a_model_over_2_gib(request_: EngineCompileRequest, tmp_path: Path) -> None:
    onnx_models.write_small(request_.backbones[0].onnx_path, seed=1, weights="weights.bin")
    os.truncate(tmp_path / "weights.bin", 3 << 30)
    with pytest.raises(EngineBuildError, match=r"^small\.onnx has 3\.0 GiB .* limited to 2 GiB: "):
        onnxruntime_build.build(child_request(request_, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_another_onnxruntime_than_the_target_says(
    request_: EngineCompileRequest, tmp_path: Path
) -> None:
    asked = {**child_request(request_, tmp_path / "out"), "version": "1.0.0"}
    with pytest.raises(EngineBuildError, match=rf"is for ONNX Runtime 1\.0\.0, {VERSION} is"):
        onnxruntime_build.build(asked)


def child_request(request: EngineCompileRequest, output: Path) -> dict[str, Any]:
    spec = request.backbones[0]
    return {
        "version": VERSION,
        "cpu": level(),
        "sm": [],
        "model": str(spec.onnx_path),
        "output": str(output),
        "workspace_mb": 64,
        "profiles": [profile.as_dict() for profile in spec.optimization_profiles],
        "builder": spec.builder.as_dict(),
    }


def test_a_child_that_is_killed(request_: EngineCompileRequest) -> None:
    """When it has begun to write; what is there of the engine goes."""
    onnx_models.write_slow(request_.backbones[0].onnx_path)
    dense = with_spec(
        request_, input_name=onnx_models.SLOW_INPUT, expected_input_shape=(1, 3, 224, 224)
    )
    seen: list[str] = []

    def kill() -> None:
        wait_for(lambda: list(request_.cache_root.glob(".*.tmp")))
        seen.extend(file.name for file in request_.cache_root.glob(".*.tmp"))
        for child in children(f"small_cpu-{level()}"):
            os.kill(child, signal.SIGKILL)

    request_.cache_root.mkdir()
    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(EngineBuildError, match="the build process was killed by SIGKILL"):
        compiled(dense)
    killer.join()
    assert seen
    assert list(request_.cache_root.iterdir()) == []
    assert children(f"small_cpu-{level()}") == []


def test_a_model_that_changes_under_the_build(request_: EngineCompileRequest) -> None:
    path = request_.backbones[0].onnx_path
    onnx_models.write_slow(path)
    dense = with_spec(
        request_, input_name=onnx_models.SLOW_INPUT, expected_input_shape=(1, 3, 224, 224)
    )

    def change() -> None:
        wait_for(lambda: list(request_.cache_root.glob(".*.tmp")))
        onnx_models.write_small(path, seed=1)

    request_.cache_root.mkdir()
    other = threading.Thread(target=change)
    other.start()
    with pytest.raises(InputChangedError, match=r"^small\.onnx changed while the engine was built"):
        compiled(dense)
    other.join()
    assert list(request_.cache_root.iterdir()) == []


def children(label: str) -> list[int]:
    """Running children of this process with this label in their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                found += [int(entry.name)] if label in (entry / "cmdline").read_text() else []
        except OSError:
            continue
    return found


def test_an_engine_is_not_optimized_again(request_: EngineCompileRequest) -> None:
    with runner(built(request_)) as active:
        options = active.sess.get_session_options()
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL


def test_words_are_one_line_and_not_a_page() -> None:
    said = words(ValueError("[ONNXRuntimeError] : 1 : FAIL : missing:\n" + "tensor, " * 1000))
    assert said.startswith("missing: tensor, tensor")
    assert said.endswith(" ...")
    assert len(said) < 1000


def test_an_engine_that_is_none(request_: EngineCompileRequest) -> None:
    garbled = bytearray(built(request_))
    model = onnx.load_from_string(bytes(garbled))
    model.graph.node[0].op_type = "Nonsense"
    with (
        pytest.raises(EngineBuildError, match=r"^the engine cannot be loaded: .*Nonsense"),
        runner(model.SerializeToString()),
    ):
        pass


# From here on: what needs a GPU that is not here, as far as it can be tested.

ORIN = Host(
    source="test", cpu="aarch64", gpus=(Gpu(index=0, name="Orin", sm=87),), jetpack="6.2",
    trt="10.3.0.30",
)  # fmt: skip
ON_ORIN = HostCapabilities(sm=87, jetpack="6.2", trt=f"{VERSION}+trt10.3.0.30")

# "Provider Options" in the README of onnxruntime/onnxruntime-ep-tensorrt, which are those of the
# provider in ONNX Runtime itself.
DOCUMENTED = set(
    re.findall(
        r"\w+",
        """
device_id trt_max_partition_iterations trt_min_subgraph_size trt_max_workspace_size
trt_fp16_enable trt_int8_enable trt_bf16_enable trt_int8_calibration_table_name
trt_int8_use_native_calibration_table trt_dla_enable trt_dla_core trt_engine_cache_enable
trt_engine_cache_path trt_engine_cache_prefix trt_dump_subgraphs
trt_force_sequential_engine_build trt_context_memory_sharing_enable trt_layer_norm_fp32_fallback
trt_timing_cache_enable trt_timing_cache_path trt_force_timing_cache trt_detailed_build_log
trt_build_heuristics_enable trt_sparsity_enable trt_builder_optimization_level
trt_auxiliary_streams trt_tactic_sources trt_extra_plugin_lib_paths trt_profile_min_shapes
trt_profile_max_shapes trt_profile_opt_shapes trt_cuda_graph_enable trt_dump_ep_context_model
trt_ep_context_file_path trt_ep_context_embed_mode trt_weight_stripped_engine_enable
trt_onnx_model_folder_path trt_engine_hw_compatible trt_op_types_to_exclude
""",
    )
)


def test_targets_in_full() -> None:
    on_gpu = RUNTIME.resolve(87, "6.2", None, lambda: ORIN)
    assert on_gpu == ON_ORIN
    toolchain = dict(RUNTIME.toolchain(on_gpu))
    assert toolchain.pop("platform")
    assert toolchain == {
        "runtime": "onnxruntime",
        "onnxruntime": VERSION,
        "tensorrt": "10.3.0.30",
        "settings": "1",
    }
    assert RUNTIME.resolve(None, None, "1.0.0", lambda: ORIN) == HostCapabilities(
        sm=(), jetpack=None, trt="1.0.0", cpu="aarch64"
    )
    with pytest.raises(ValueError, match="jetpack goes with a GPU; add sm"):
        RUNTIME.resolve(None, "6.2", None, lambda: ORIN)
    with pytest.raises(HostError, match=rf'no TensorRT.* trt = "{VERSION}\+trt<version'):
        RUNTIME.resolve(87, "6.2", None, lambda: HERE)


def test_a_target_for_a_gpu_that_is_given_in_full_asks_for_no_host() -> None:
    def host() -> Host:
        raise AssertionError("it is asked for a host")

    assert RUNTIME.resolve(87, "6.2", ON_ORIN.trt, host) == ON_ORIN
    with pytest.raises(AssertionError):  # a corpus cannot name a CPU
        RUNTIME.resolve(None, None, "1.0.0", host)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (HostCapabilities(sm=(), jetpack=None, trt="1.2+trt10.3", cpu="vax"), 'is for a GPU; add sm, or write "1.2"'),
        (HostCapabilities(sm=86, jetpack=None, trt="1.2"), 'write "1.2+trt<version of TensorRT>"'),
        (HostCapabilities(sm=(86, 89), jetpack=None, trt="1.2+trt10.3"), "give one sm"),
    ],
)  # fmt: skip
def test_targets_that_are_never_built(target: HostCapabilities, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        RUNTIME.check_target(target)


def test_targets_that_are_built() -> None:
    RUNTIME.check_target(ON_ORIN)
    RUNTIME.check_target(RUNTIME.resolve(None, None, None, lambda: HERE))


def test_precisions() -> None:
    cpu = HostCapabilities(sm=(), jetpack=None, trt=VERSION, cpu="vax")
    RUNTIME.check_precision(cpu, PrecisionMode.FP16)
    RUNTIME.check_precision(ON_ORIN, PrecisionMode.BF16)
    with pytest.raises(ValueError, match=r"does not compute in bf16 on a CPU; use fp32"):
        RUNTIME.check_precision(cpu, PrecisionMode.BF16)


OTHER_THAN_DEFAULT = {
    "builder_optimization_level": 5,
    "profiling_verbosity": "detailed",
    "max_aux_streams": 0,
    "tf32": False,
    "sparse_weights": True,
    "weight_streaming": True,
    "avg_timing_iterations": 4,
    "tactic_sources": ("CUBLAS",),
    "tiling_optimization_level": "full",
    "hardware_compatibility_level": "ampere_plus",
    "version_compatible": True,
    "default_device_type": "dla",
    "gpu_fallback": True,
    "memory_pools": MemoryPools(tactic_dram=64),
    "plugins": ("libcustom.so",),
}


def test_options() -> None:
    assert set(OTHER_THAN_DEFAULT) == set(BuilderOptions.__struct_fields__)
    cpu = HostCapabilities(sm=(), jetpack=None, trt=VERSION, cpu="vax")
    for target, taken in (
        (cpu, set()),
        (ON_ORIN, {"builder_optimization_level", "max_aux_streams", "sparse_weights"}),
    ):
        RUNTIME.check_options(BuilderOptions(), target)
        for name, value in OTHER_THAN_DEFAULT.items():
            options = msgspec.structs.replace(BuilderOptions(), **{name: value})
            if name in taken:
                RUNTIME.check_options(options, target)
            else:
                with pytest.raises(ValueError, match=f"^{name}: .*; remove it$"):
                    RUNTIME.check_options(options, target)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (HERE, "it needs a GPU of SM 8.7, this host is"),
        (msgspec.structs.replace(ORIN, jetpack="6.1"), "it needs JetPack 6.2, this host is"),
        (msgspec.structs.replace(ORIN, trt="10.7"), "it needs TensorRT 10.3.0.30, this host is"),
    ],
)
def test_elsewhere_for_a_gpu(host: Host, words: str) -> None:
    reason = RUNTIME.elsewhere(ON_ORIN, host)
    assert reason is not None
    assert reason.startswith(words)


def test_where_an_engine_runs() -> None:
    assert RUNTIME.elsewhere(ON_ORIN, ORIN) is None
    assert RUNTIME.runs_on(ON_ORIN, ORIN)
    assert not RUNTIME.runs_on(ON_ORIN, HERE)
    cpu = HostCapabilities(sm=(), jetpack=None, trt=VERSION, cpu="aarch64")
    assert RUNTIME.runs_on(cpu, ORIN)
    assert not RUNTIME.runs_on(cpu, HERE)


@pytest.mark.skipif(
    onnxruntime_tensorrt.PROVIDER in ort.get_available_providers(), reason="it is here"
)
def test_without_the_provider(request_: EngineCompileRequest) -> None:
    with pytest.raises(
        EngineBuildError,
        match=r"no TensorrtExecutionProvider, it has .*CPU.*; install onnxruntime-gpu",
    ):
        compiled(replace(request_, host=ON_ORIN, build_host=ORIN))
    assert list(request_.cache_root.iterdir()) == []


def provider_options(model: onnx.ModelProto, **builder: Any) -> dict[str, Any]:
    ranges = [
        ProfileRange(1, "input", [4, 8], [6, 8], [9, 8]),
        ProfileRange(0, "input", [1, 8], [2, 8], [3, 8]),
        ProfileRange(0, "mask", [1], [1], [1]),
    ]
    options = msgspec.structs.replace(BuilderOptions(), **builder)
    return onnxruntime_tensorrt.provider_options(
        model, Path("engine.tmp"), ranges, 64, options.as_dict()
    )


def test_every_option_of_the_provider_is_documented(request_: EngineCompileRequest) -> None:
    model = onnx.load(request_.backbones[0].onnx_path)
    options = provider_options(model, builder_optimization_level=5, max_aux_streams=0)
    assert set(options) <= DOCUMENTED
    assert options["trt_builder_optimization_level"] == 5
    assert options["trt_auxiliary_streams"] == 0
    assert options["trt_max_workspace_size"] == 64 << 20
    assert options["trt_profile_min_shapes"] == "input:1x8,mask:1,input:4x8"
    assert options["trt_profile_max_shapes"] == "input:3x8,mask:1,input:9x8"
    assert options["trt_ep_context_file_path"] == "engine.tmp"


def test_every_setting_of_a_session_is_one() -> None:
    """ONNX Runtime takes any name without a word, so they are looked for in its library."""
    library = Path(ort.capi._pybind_state.__file__).parent
    code = b"".join(file.read_bytes() for file in library.glob("onnxruntime_pybind11_state*"))
    settings = {
        **onnxruntime_build._SETTINGS,
        **onnxruntime_tensorrt.session_settings(Path("engine.tmp")),
    }
    for name in settings:
        assert name.encode() + b"\0" in code, name
    assert b"ep.context_enabled\0" not in code


def test_the_provider_may_use_the_types_of_the_model(
    request_: EngineCompileRequest, tmp_path: Path
) -> None:
    path = request_.backbones[0].onnx_path
    allowed = ("trt_fp16_enable", "trt_bf16_enable", "trt_int8_enable")

    def of(model: onnx.ModelProto) -> tuple[bool, ...]:
        options = provider_options(model)
        return tuple(options[name] for name in allowed)

    assert of(onnx.load(path)) == (False, False, False)
    bf16(tmp_path / "bf16.onnx")
    assert of(onnx.load(tmp_path / "bf16.onnx")) == (False, True, False)
    write_quantized(tmp_path / "quantized.onnx")
    assert of(onnx.load(tmp_path / "quantized.onnx")) == (False, False, True)
    half = onnx.load(path)
    half.graph.initializer[0].data_type = TensorProto.FLOAT16
    assert of(half) == (True, False, False)


def context_model(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    return helper.make_model(helper.make_graph(list(nodes), "context", [], []))


def context(**attributes: Any) -> onnx.NodeProto:
    return helper.make_node("EPContext", [], ["output"], domain="com.microsoft", **attributes)


def test_a_context_model() -> None:
    whole = context_model(context(embed_mode=1, hardware_architecture="87"))
    onnxruntime_tensorrt.check_context(whole, [87])
    onnxruntime_tensorrt.check_context(context_model(context(embed_mode=1)), [87])
    with pytest.raises(EngineBuildError, match=r"came out for SM 87, asked for was 86; .*VISIBLE"):
        onnxruntime_tensorrt.check_context(whole, [86])
    part = context_model(context(), helper.make_node("Relu", ["a"], ["b"]))
    with pytest.raises(EngineBuildError, match="TensorRT left Relu to others"):
        onnxruntime_tensorrt.check_context(part, [87])
    with pytest.raises(EngineBuildError, match="TensorRT left everything to others"):
        onnxruntime_tensorrt.check_context(context_model(), [87])


def test_a_session_that_the_provider_is_not_in() -> None:
    onnxruntime_tensorrt.check_used([onnxruntime_tensorrt.PROVIDER, "CPUExecutionProvider"])
    with pytest.raises(EngineBuildError, match="could not be loaded, CPUExecutionProvider was"):
        onnxruntime_tensorrt.check_used(["CPUExecutionProvider"])


@pytest.fixture(autouse=True)
def _no_processes_left() -> Iterator[None]:
    yield
    assert children("enginery.runtimes.onnxruntime_build") == []
