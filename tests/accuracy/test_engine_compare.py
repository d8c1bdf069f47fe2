"""Polygraphy's comparator over two models, and over a model and a real engine for this CPU."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import onnx_models
import pytest

from enginery import (
    BackboneSpec,
    EngineBuildError,
    EngineCompiler,
    EngineCompileRequest,
    EngineIntegrityError,
    PrecisionMode,
    Runtime,
    Sha256SidecarError,
    load_runtime,
    worker,
)
from enginery.accuracy import samples
from enginery.accuracy.compare import Request
from enginery.accuracy.engine import compare_engine, compare_runners, original_runner
from enginery.accuracy.report import check_engine
from enginery.config import LoweringOptions
from enginery.digest import sha256_file
from enginery.host import Host
from enginery.lowering.floats import convert
from enginery.probing.cpu import level


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx_models.write_small(tmp_path / "small.onnx", seed=1)
    return tmp_path / "small.onnx"


def given(model: Path) -> list[samples.Sample]:
    inputs = samples.model_inputs(onnx.load(model).graph, {})
    return samples.generate(inputs, count=3, seed=0)


def request(model: Path, **more: object) -> Request:
    return Request(original=str(model), precision="fp16", **more)  # type: ignore[arg-type]


def test_a_lowered_model_passes(model: Path, tmp_path: Path) -> None:
    lowered = tmp_path / "fp16.onnx"
    onnx.save(
        convert(onnx.load(model), PrecisionMode.FP16, LoweringOptions(), name="small"), lowered
    )
    runners = [original_runner(str(model)), original_runner(str(lowered))]
    found = compare_runners(runners, given(model), request(model))
    assert found["passed"], found["missed"]
    assert found["samples"] == 3
    assert 40 < found["outputs"]["output"]["snr_db"] < 90


def test_other_weights_are_missed(model: Path, tmp_path: Path) -> None:
    onnx_models.write_small(tmp_path / "other.onnx", seed=2)
    runners = [original_runner(str(model)), original_runner(str(tmp_path / "other.onnx"))]
    found = compare_runners(runners, given(model), request(model))
    assert not found["passed"]
    assert any("signal-to-noise ratio" in words for words in found["missed"])


def test_outputs_of_other_names_are_an_error(model: Path, tmp_path: Path) -> None:
    other = onnx.load(model)
    other.graph.node[-1].output[0] = other.graph.output[0].name = "logits"
    onnx.save(other, tmp_path / "other.onnx")
    runners = [original_runner(str(model)), original_runner(str(tmp_path / "other.onnx"))]
    with pytest.raises(EngineBuildError, match="outputs are logits, the model's are output"):
        compare_runners(runners, given(model), request(model))


@pytest.fixture
def engine(model: Path, tmp_path: Path) -> Path:
    """A real engine for this CPU, in fp16."""
    runtime = on_cpu()
    here = Host(source="probed", cpu=level())
    request = EngineCompileRequest(
        backbones=(BackboneSpec("small", model, (1, 3, 16, 16)),),
        calibration_path=None,
        cache_root=tmp_path / "engines",
        precision=PrecisionMode.FP16,
        host=runtime.resolve(None, None, None, lambda: here),
        build_host=here,
    )
    compiler = EngineCompiler(inference_runtime=runtime, logger=logging.getLogger("tests"))
    (result,) = compiler.compile_engines_for_corpus(request)
    return result.entry.engine_path


def on_cpu() -> Runtime:
    return load_runtime("onnxruntime")


def engine_request(engine: Path, model: Path, **more: Any) -> dict[str, Any]:
    asked = {"engine": str(engine), "original": str(model), "precision": "fp16", "tolerances": {}}
    return {**asked, "runner": on_cpu().runner, **more}


def test_a_real_engine_passes(engine: Path, model: Path) -> None:
    found = compare_engine(engine_request(engine, model, samples=3))
    assert found["passed"], found["missed"]
    assert found["samples"] == 3
    assert 40 < found["outputs"]["output"]["snr_db"] < 90
    version = on_cpu().installed_version()
    assert found["how"] == {
        "original": "onnxruntime, CPU",
        "lowered": f"the engine, in onnxruntime {version}, CPU",
    }


def test_an_engine_of_another_model_is_missed(engine: Path, tmp_path: Path) -> None:
    onnx_models.write_small(tmp_path / "other.onnx", seed=2)
    found = compare_engine(engine_request(engine, tmp_path / "other.onnx"))
    assert not found["passed"]


def test_the_report(engine: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    made = check_engine(engine_request(engine, model, output=str(output)))
    assert made["sha256"] == sha256_file(output)
    report = json.loads(output.read_text())
    assert report["passed"]
    assert report["engine_sha256"] == sha256_file(engine)
    assert report["original_sha256"] == sha256_file(model)


def test_an_engine_that_does_not_take_the_sample(engine: Path, tmp_path: Path) -> None:
    onnx_models.write_small(tmp_path / "two.onnx", seed=1, batch=2)
    with pytest.raises(EngineBuildError, match=r"the engine cannot be run here: .*shape"):
        compare_engine(engine_request(engine, tmp_path / "two.onnx"))


def test_an_engine_that_is_not_verified_is_not_loaded(model: Path, tmp_path: Path) -> None:
    (tmp_path / "small.engine").write_bytes(b"code of a stranger")
    with pytest.raises(Sha256SidecarError, match=r"the sidecar of small\.engine is missing"):
        compare_engine(engine_request(tmp_path / "small.engine", model))


def test_an_engine_that_is_flipped_is_not_loaded(engine: Path, model: Path) -> None:
    data = bytearray(engine.read_bytes())
    data[-100] ^= 1
    engine.write_bytes(data)
    with pytest.raises(EngineIntegrityError, match="is damaged"):
        compare_engine(engine_request(engine, model))


def test_what_tensorrt_cannot_load(model: Path, tmp_path: Path) -> None:
    """The runner of the TensorRT family, as far as it goes without a GPU and with no engine."""
    path = tmp_path / "small.engine"
    path.write_bytes(b"no engine")
    path.with_name("small.engine.sha256").write_text(f"{sha256_file(path)}  small.engine\n")
    asked = engine_request(path, model, runner="enginery.runtimes.tensorrt_runner:runner")
    environment = load_runtime("tensorrt_rtx").polygraphy_environment
    with pytest.raises(
        EngineBuildError, match=r"TensorRT does not load the engine here: .*readHeader"
    ):
        worker.run("enginery.accuracy.engine:compare_engine", asked, environment=environment)


def test_no_vendor_library_is_imported_for_another() -> None:
    program = (
        "import sys, enginery.accuracy.engine, enginery.runtimes.onnxruntime_runner\n"
        "print({'tensorrt', 'tensorrt_rtx', 'polygraphy.backend.trt'}.intersection(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
