"""A change builds exactly the engines that depend on it, and says what changed."""

from __future__ import annotations

import os
from pathlib import Path

import onnx_models
import pytest
from conftest import Project, flip_bit

SHAPE = "expected_input_shape = [1, 3, 16, 16]\n"
PLAIN = '[backbones.plain]\nonnx = "plain.onnx"\n'


def assert_builds(project: Project, *backbones: str, reason: str = "") -> None:
    for backbone in backbones:
        info = project.doit("info", backbone)
        assert info.returncode == 1
        assert reason in info.stdout, info.stdout
    run = project.doit()
    assert run.returncode == 0, run.said
    assert run.built == list(backbones), run.said
    assert reason in run.stderr
    assert project.doit().built == []


def test_onnx(project: Project) -> None:
    onnx_models.write_small(project.path / "plain.onnx", seed=9)
    assert_builds(project, "plain", reason="the ONNX changed (")


def test_onnx_of_an_fp16_engine(project: Project) -> None:
    onnx_models.write_small(project.path / "half.onnx", seed=9)
    assert_builds(project, "half", reason="the ONNX changed (")


def test_one_bit_at_the_same_mtime(project: Project) -> None:
    project.doit()
    flip_bit(project.path / "plain.onnx")
    assert_builds(project, "plain", reason="the ONNX changed (")


def test_onnx_swapped_back_and_forth(project: Project) -> None:
    model: Path = project.path / "plain.onnx"
    first = model.read_bytes()
    info = model.stat()
    onnx_models.write_small(model, seed=9)
    assert model.stat().st_size == info.st_size
    os.utime(model, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert_builds(project, "plain")
    model.write_bytes(first)
    assert_builds(project, "plain")


def test_external_data_alone(project: Project) -> None:
    flip_bit(project.path / "weights.bin", offset=0)
    assert_builds(project, "external", reason="external data weights.bin changed (")


def test_calibration_cache(project: Project) -> None:
    cache = project.path / "plain.calib"
    cache.write_text("TRT-100300-EntropyCalibration2\ninput: 3c010a14\n")
    project.edit("corpus.toml", PLAIN, PLAIN + 'calibration = "plain.calib"\n')
    assert_builds(project, "plain", reason="the calibration cache was added (")
    flip_bit(cache, offset=-2)
    assert_builds(project, "plain", reason="the calibration cache changed (")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("workspace_mb = 65\n", "workspace_mb: 64 -> 65"),
        (
            "[backbones.plain.builder]\nprofiling_verbosity = 'detailed'\n",
            "profiling_verbosity: layer_names_only -> detailed",
        ),
        (
            "[backbones.plain.builder]\nbuilder_optimization_level = 2\n",
            "builder_optimization_level: 3 -> 2",
        ),
        ("[backbones.plain.builder]\ntf32 = false\n", "tf32: true -> false"),
        ("[backbones.plain.builder]\nsparse_weights = true\n", "sparse_weights: false -> true"),
        ("[backbones.plain.builder]\nmax_aux_streams = 1\n", "max_aux_streams: -1 -> 1"),
    ],
)
def test_settings_of_one_backbone(project: Project, line: str, reason: str) -> None:
    project.edit("corpus.toml", PLAIN + SHAPE, PLAIN + SHAPE + line)
    assert_builds(project, "plain", reason=reason)


def test_setting_of_every_backbone(project: Project) -> None:
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 128")
    assert_builds(project, "plain", "external", "half", reason="workspace_mb: 64 -> 128")


def test_precision_is_another_engine(project: Project) -> None:
    before = project.snapshot()
    project.edit("corpus.toml", PLAIN, PLAIN + 'precision = ["fp16"]\n')
    assert project.doit().built == ["plain"]
    assert before.items() <= project.snapshot().items()


def test_capabilities_are_another_engine(project: Project) -> None:
    before = project.snapshot()
    project.edit("corpus.toml", "sm = [86, 89]", "sm = [89, 120]")
    assert project.doit().built == ["plain", "external", "half"]
    assert before.items() <= project.snapshot().items()
    project.edit("corpus.toml", "sm = [89, 120]", "sm = [89, 86]")
    assert project.doit().built == []


def test_tensorrt_build_is_another_engine(project: Project) -> None:
    project.edit("corpus.toml", "sm = [86, 89]", 'sm = [86, 89]\ntrt = "1.0.0.1"')
    before = project.snapshot()
    run = project.doit("plain")
    assert run.returncode == 1
    assert "plain: the engine is for TensorRT 1.0.0.1" in run.stdout
    assert "is installed here" in run.stdout
    assert project.snapshot() == before


def test_profile(project: Project) -> None:
    onnx_models.write_small(project.path / "plain.onnx", seed=1, batch="N")
    project.doit()
    ranges = "profiles = [{ min = { input = [1, 3, 16, 16] }, opt = { input = [2, 3, 16, 16] }, "
    project.edit(
        "corpus.toml", PLAIN + SHAPE, PLAIN + ranges + "max = { input = [4, 3, 16, 16] } }]\n"
    )
    assert_builds(project, "plain", reason="profiles: [")
    project.edit("corpus.toml", "input = [4, 3", "input = [8, 3")
    assert_builds(project, "plain", reason="profiles: [")


def test_the_lowered_model_alone_builds_no_engine(project: Project) -> None:
    flip_bit(project.path / ".enginery" / "lowered" / "half_fp16.onnx")
    assert project.doit().built == []
    assert project.doit("clean", "half").returncode == 0
    run = project.doit()
    assert run.built == ["half"]
    assert ".  lower:half-fp16" in run.stdout


def test_a_model_made_by_another_task(project: Project) -> None:
    model = project.path / "plain.onnx"
    made = project.path / "made.onnx"
    made.write_bytes(model.read_bytes())
    model.unlink()
    dodo = project.path / "dodo.py"
    dodo.write_text(
        dodo.read_text() + "def task_export():\n"
        "    return {'actions': ['cp made.onnx plain.onnx'], 'file_dep': ['made.onnx'],\n"
        "            'targets': ['plain.onnx']}\n"
    )
    run = project.doit("plain")
    assert run.returncode == 0, run.said
    assert run.built == []
    onnx_models.write_small(made, seed=9)
    assert project.doit("plain").built == ["plain"]
