"""A failing build: its own words, an exit code, nothing left behind, the others unharmed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import onnx_models
import pytest
from conftest import Project, wait_for

BAD = """
[backbones.bad]
onnx = "bad.onnx"
expected_input_shape = [1, 3, 16, 16]
"""


def unsupported(path: Path) -> None:
    onnx_models.write_single(path, "Det")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    onnx_models.write_small(path, seed=1)
    os.truncate(path, path.stat().st_size // 2)


def random_bytes(path: Path) -> None:
    path.write_bytes(bytes(range(7, 256)) * 20)


def no_external_data(path: Path) -> None:
    onnx_models.write_small(path, seed=1, weights="gone.bin")
    (path.parent / "gone.bin").unlink()


def put_first(project: Project, text: str) -> None:
    """Put a backbone before the others, so that its failure comes first."""
    project.edit("corpus.toml", "[backbones.plain]", text + "[backbones.plain]")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (unsupported, "operator Det (node 'only'): UNSUPPORTED_NODE"),
        (empty, "bad.onnx holds no network"),
        (truncated, "bad.onnx"),
        (random_bytes, "bad.onnx"),
        (no_external_data, "external data gone.bin of bad.onnx is not there"),
    ],
)
def test_bad_model(
    project: Project, make: Callable[[Path], None], words: str, precision: str
) -> None:
    project.doit("clean")
    make(project.path / "bad.onnx")
    put_first(project, f'{BAD}precision = ["{precision}"]\n')
    run = project.doit()
    assert run.returncode == 1, run.said
    assert words in run.stdout
    assert "\nbad: " in run.stdout
    assert "Traceback" not in run.said
    assert list(project.engines.iterdir()) == []

    run = project.doit("--continue")
    assert run.returncode == 1, run.said
    assert run.built == ["plain", "external", "half"]
    assert len(list(project.engines.iterdir())) == 9
    assert project.doit("--continue").built == []


def test_a_capability_that_cannot_do_the_precision(project: Project) -> None:
    project.edit("corpus.toml", "[targets.rtx]", "[targets.turing]\nruntime = 'tensorrt_rtx'\n"
                 "sm = 75\n[targets.rtx]")  # fmt: skip
    put_first(project, '[backbones.bad]\nonnx = "plain.onnx"\ntargets = ["turing"]\n'
              "expected_input_shape = [1, 3, 16, 16]\n")  # fmt: skip
    run = project.doit("bad")
    assert run.returncode == 1
    assert "bad: " in run.stdout
    assert "FP32 GEMM is not supported" in run.stdout
    assert list(project.engines.glob("bad*")) == []


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (("[1, 3, 16, 16]", "[1, 3, 16, 17]"), "backbones.plain.expected_input_shape: [1, 3, 16, 17] does not fit input 'input'; the graph's inputs are: input float [1, 3, 16, 16]"),
        (("[1, 3, 16, 16]", "[1, 3, 16]"), "backbones.plain.expected_input_shape: [1, 3, 16] does not fit"),
        (('onnx = "plain.onnx"', 'onnx = "plain.onnx"\ninput_name = "data"'), "backbones.plain.input_name: the graph has no input 'data'; the graph's inputs are: input"),
        (('onnx = "plain.onnx"', 'onnx = "gone.onnx"'), "backbones.plain.onnx: the ONNX gone.onnx is not there; put the model there or correct the path"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_description_that_does_not_fit_the_graph(
    project: Project, edit: tuple[str, str], words: str, precision: str
) -> None:
    before = project.snapshot()
    text = (project.path / "corpus.toml").read_text()
    head, plain = text.split("[backbones.plain]")
    plain = plain.replace(*edit, 1)
    project.edit(
        "corpus.toml", text, f"{head}[backbones.plain]\nprecision = ['{precision}']{plain}"
    )
    run = project.doit("plain")
    assert run.returncode == 2, run.said
    assert f"\ncorpus.toml: {words}" in run.stdout
    assert "Traceback" not in run.said
    assert project.snapshot() == before
    assert project.doit("list", "--status").returncode == 0


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (("workspace_mb", "workspace"), "corpus: unknown key 'workspace'; did you mean 'workspace_mb'?"),
        (('runtime = "tensorrt_rtx"', 'runtime = "tensorrt_rtz"'), "targets.rtx.runtime: there is no runtime 'tensorrt_rtz'; did you mean 'tensorrt_rtx'?; known: onnxruntime, tensorrt, tensorrt_rtx"),
        (("sm = [86, 89]", "sm = [87]"), "targets.rtx: TensorRT-RTX builds nothing for SM 87 (Jetson Orin)"),
        (("sm = [86, 89]", 'sm = 86\njetpack = "6.2"'), "targets.rtx: TensorRT-RTX does not run on Jetson"),
        (("[backbones.plain]", "[backbones.list]"), "backbones.list: 'list' is a command; rename it"),
        (("[backbones.plain]", '[backbones."a/b"]'), "backbones.a/b: 'a/b' is no safe file name"),
        (("[backbones.plain]", "[backbones.half]"), "is no TOML"),
        (('precision = ["fp32"]', 'precision = ["fp8"]'), "backbones.plain.precision: tensorrt_rtx builds no fp8 here; use bf16 or fp16 or fp32 or int8"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_corpus(project: Project, edit: tuple[str, str], words: str) -> None:
    project.edit("corpus.toml", *edit)
    for arguments in ([], ["list"], ["list", "--status"], ["info", "plain"], ["clean"]):
        run = project.doit(*arguments)
        assert run.returncode == 3
        assert run.stderr.startswith(f"ERROR: corpus.toml: {words}"), run.stderr
        assert len(run.stderr.splitlines()) == 1


def test_a_missing_corpus(project: Project) -> None:
    (project.path / "corpus.toml").unlink()
    run = project.doit()
    assert run.returncode == 3
    assert run.stderr == (
        "ERROR: corpus.toml: there is no such file; write one, or correct the path\n"
    )


def test_a_runtime_that_is_not_installed(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package is installed wherever tests run, so its metadata is hidden from doit."""
    hide = tmp_path / "sitecustomize.py"
    hide.write_text(
        "import importlib.metadata as m\n"
        "real = m.distribution\n"
        "def distribution(name):\n"
        "    if name.startswith('tensorrt'):\n"
        "        raise m.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "m.distribution = distribution\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert project.doit("list").returncode == 0
    run = project.doit()
    assert run.returncode == 1
    assert (
        "plain: it cannot be built here: TensorRT-RTX is not installed; install it with: "
        "pip install 'enginery[rtx]'; or write" in run.stdout
    )


def test_an_engine_folder_that_cannot_be_written(project: Project) -> None:
    project.engines.rename(project.path / "aside")
    project.engines.write_text("a file, not a folder")
    run = project.doit("plain")
    assert run.returncode == 2
    assert "cannot be written" in run.stdout
    assert "Traceback" not in run.said


@pytest.mark.parametrize(
    ("precision", "stage"),
    [
        ("fp32", "tensorrt_build:build"),
        ("fp16", "lowering.fp16:lower"),
        ("fp16", "tensorrt_build:build"),
    ],
)
@pytest.mark.parametrize("delay", [0.0, 1.0])
def test_a_model_edited_while_its_build_runs(
    new_project: Project, precision: str, stage: str, delay: float
) -> None:
    """At once, so that the half-edited model may be what is read, and later."""
    project = new_project
    onnx_models.write_slow(project.path / "slow.onnx")
    (project.path / "corpus.toml").write_text(f"{SLOW}precision = ['{precision}']\n")
    running = project.start()
    wait_for(lambda: project.processes(stage))
    time.sleep(delay)
    with (project.path / "slow.onnx").open("ab") as model:
        model.write(b"\n")
    assert running.wait(120) == 1
    said = (project.path / "log").read_text()
    # On a slow machine the step may be over by then, and the next one finds the model broken.
    late = delay > 0 and "slow.onnx is no ONNX model" in said
    assert late or ("slow.onnx changed while" in said and "nothing was published" in said), said
    assert not (project.path / "engines").exists() or not list((project.path / "engines").iterdir())


SLOW = """\
schema = 1
[corpus]
precision = ["fp32"]
targets = ["rtx"]
[targets.rtx]
runtime = "tensorrt_rtx"
sm = 86
[backbones.slow]
onnx = "slow.onnx"
input_name = "data_0"
expected_input_shape = [1, 3, 224, 224]
"""


def test_a_calibration_cache_that_nobody_needs_may_be_missing(project: Project) -> None:
    project.edit(
        "corpus.toml", 'onnx = "plain.onnx"', 'onnx = "plain.onnx"\ncalibration = "no.calib"'
    )
    for arguments in ([], ["list", "--status"], ["info", "plain"]):
        run = project.doit(*arguments)
        assert run.returncode == 0, run.said
        assert run.built == []


def test_a_name_that_is_too_long(project: Project) -> None:
    project.edit("corpus.toml", "[backbones.plain]", f"[backbones.{'x' * 190}]")
    run = project.doit("list")
    assert run.returncode == 3
    assert len(run.stderr.splitlines()) == 1
    assert "shorten the name" in run.stderr


def test_a_corpus_that_is_a_fifo_or_has_a_mark(project: Project) -> None:
    corpus = project.path / "corpus.toml"
    corpus.write_bytes(b"\xef\xbb\xbf" + corpus.read_bytes())
    assert project.doit("list").returncode == 0
    corpus.unlink()
    os.mkfifo(corpus)
    run = project.doit("list", timeout=20)
    assert run.returncode == 3
    assert "corpus.toml is a FIFO" in run.stderr
