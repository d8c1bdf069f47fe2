"""Polygraphy's comparator over two models; the runner of an engine alone needs a GPU."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_models
import pytest

from enginery import EngineBuildError, PrecisionMode, Sha256SidecarError
from enginery.accuracy import samples
from enginery.accuracy.compare import Request
from enginery.accuracy.engine import compare_engine, compare_runners, original_runner
from enginery.config import LoweringOptions
from enginery.lowering.floats import convert


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


def test_an_engine_that_is_not_verified_is_not_loaded(model: Path, tmp_path: Path) -> None:
    (tmp_path / "small.engine").write_bytes(b"code of a stranger")
    with pytest.raises(Sha256SidecarError, match=r"the sidecar of small\.engine is missing"):
        compare_engine(
            {"engine": str(tmp_path / "small.engine"), "original": str(model), "precision": "fp16"}
        )
