"""Estimates: by the nearest builds that there were, and none where nothing compares."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Project

from enginery.history import PastBuild, estimate, model_size, past_builds

PAST = (
    PastBuild("vit", "tensorrt", "fp16", 30.0),
    PastBuild("vit", "tensorrt", "fp16", 40.0),
    PastBuild("vit", "tensorrt", "fp16", 90.0),
    PastBuild("vit", "tensorrt", "int8", 300.0),
    PastBuild("vit", "tensorrt_rtx", "fp32", 7.0),
    PastBuild("resnet", "tensorrt", "fp16", 10.0),
)
SIZES = {"vit": 100, "resnet": 210, "near": 200, "far": 40, "gone": 0}


@pytest.mark.parametrize(
    ("model", "runtime", "precision", "seconds"),
    [
        ("vit", "tensorrt", "fp16", 40.0),
        ("vit", "tensorrt", "bf16", 65.0),
        ("vit", "tensorrt_rtx", "fp16", 7.0),
        ("vit", "onnxruntime", "fp32", None),
        ("near", "tensorrt", "fp16", 35.0),
        ("near", "tensorrt", "bf16", None),
        ("near", "tensorrt", "int8", 300.0),
        ("far", "tensorrt", "fp16", None),
        ("gone", "tensorrt", "fp16", None),
        ("unknown", "tensorrt", "fp16", None),
    ],
)
def test_estimate(model: str, runtime: str, precision: str, seconds: float | None) -> None:
    assert estimate(model, runtime, precision, PAST, SIZES) == seconds


def test_no_history() -> None:
    assert estimate("vit", "tensorrt", "fp16", (), SIZES) is None


def test_past_builds_are_those_that_can_be_read(project: Project, tmp_path: Path) -> None:
    found = {(one.model, one.runtime, one.precision) for one in past_builds(project.engines)}
    rtx = "tensorrt_rtx"
    assert found == {("plain", rtx, "fp32"), ("external", rtx, "fp32"), ("half", rtx, "fp16")}
    assert all(one.seconds > 0 for one in past_builds(project.engines))
    Path(f"{project.engine('plain')}.provenance.json").write_text("{}")
    project.engine("half").unlink()
    assert {one.model for one in past_builds(project.engines)} == {"external", "half"}
    assert past_builds(tmp_path / "gone") == ()


def test_size_of_a_model_with_its_data(tmp_path: Path) -> None:
    for name, size in {"m.onnx": 3, "m.onnx.data": 50, "m.onnx_data": 7, "other.onnx": 900}.items():
        (tmp_path / name).write_bytes(b"x" * size)
    assert model_size(tmp_path / "m.onnx") == 60
    assert model_size(tmp_path / "gone" / "m.onnx") == 0
