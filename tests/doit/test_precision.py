"""Precisions, calibration caches and checks, with the real doit and the real runtime."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from conftest import Project

from enginery.corpus import read_corpus
from enginery.inputs import InputDigests
from enginery.jobs import engine_jobs

HEAD = """\
schema = 1
[corpus]
targets = ["rtx"]
workspace_mb = 64
[targets.rtx]
runtime = "tensorrt_rtx"
sm = [86, 89]
"""
PLAIN = """\
[backbones.plain]
onnx = "plain.onnx"
expected_input_shape = [1, 3, 16, 16]
"""


def write(project: Project, backbones: str, head: str = HEAD) -> None:
    (project.path / "corpus.toml").write_text(head + backbones)


def write_data(folder: Path, *, count: int = 4, seed: int = 0) -> None:
    (folder / "calib").mkdir(exist_ok=True)
    random = np.random.RandomState(seed)
    for index in range(count):
        image = random.randn(1, 3, 16, 16).astype(np.float32)
        np.savez(folder / "calib" / f"{index}.npz", input=image)


@pytest.fixture
def small(new_project: Project) -> Project:
    """A project with one small model and data to calibrate it."""
    onnx_models.write_small(new_project.path / "plain.onnx", seed=1)
    write_data(new_project.path)
    return new_project


CALIBRATED = PLAIN + 'precision = ["fp32", "fp16", "int8"]\n'
CALIBRATE = '[backbones.plain.calibrate]\ndata = "calib/*.npz"\nmethod = "minmax"\n'


def engines(project: Project) -> set[str]:
    return {path.name.rpartition("_")[2] for path in project.engines.glob("*.engine")}


def built(said: str) -> set[str]:
    lines = [line for line in said.splitlines() if ", built in" in line]
    return {line.partition(".engine")[0].rpartition("_")[2] for line in lines}


def test_all_precisions_with_a_computed_cache(small: Project) -> None:
    precisions = 'precision = ["fp32", "fp16", "bf16", "int8"]\n'
    write(small, PLAIN + precisions + CALIBRATE)
    run = small.doit()
    assert run.returncode == 0, run.said
    assert built(run.stdout) == {"fp32", "fp16", "bf16", "int8"}
    assert "calibrating plain.onnx: 4" in run.stderr
    cache = small.path / ".enginery" / "calibration" / "plain.calib"
    assert cache.read_text().startswith("TRT-100300-MinMaxCalibration\n")
    run = small.doit()
    assert not [line for line in run.stdout.splitlines() if line.startswith(".")], run.said


def test_a_computed_cache_is_no_input_where_no_int8_is_built(small: Project) -> None:
    write(small, PLAIN + 'precision = ["fp32", "fp16"]\n' + CALIBRATE)
    assert built(small.doit().stdout) == {"fp32", "fp16"}
    run = small.doit()
    assert not [line for line in run.stdout.splitlines() if line.startswith(".")], run.said


def test_a_check_runs_an_engine_that_this_machine_can_run(small: Project) -> None:
    head = HEAD.replace('"tensorrt_rtx"\nsm = [86, 89]', '"onnxruntime"')
    write(small, PLAIN + 'precision = ["fp32", "fp16"]\ncheck = { samples = 2 }\n', head)
    run = small.doit()
    assert run.returncode == 0, run.said
    run = small.doit("check")
    assert run.returncode == 0, run.said
    (report,) = (small.path / ".enginery" / "checks").glob("plain_cpu-*_fp16.engine.check.json")
    said = json.loads(report.read_text())
    assert said["passed"] is True
    assert said["how"]["lowered"].startswith("the engine, in onnxruntime ")
    assert {line[:2] for line in small.doit("check").stdout.splitlines()} == {"--"}


def test_one_byte_of_the_cache_builds_int8_alone(small: Project) -> None:
    write(small, CALIBRATED + CALIBRATE)
    assert small.doit().returncode == 0
    made = small.path / ".enginery" / "calibration" / "plain.calib"
    (small.path / "plain.calib").write_bytes(made.read_bytes())
    write(small, CALIBRATED + 'calibration = "plain.calib"\n')
    assert built(small.doit().stdout) == set()
    text = made.read_text().splitlines()
    name, _, scale = text[1].rpartition(": ")
    text[1] = f"{name}: {int(scale, 16) ^ 1:08x}"
    (small.path / "plain.calib").write_text("\n".join(text) + "\n")
    info = small.doit("info", "plain:rtx-int8")
    assert "the calibration cache changed (" in info.stdout
    run = small.doit()
    assert built(run.stdout) == {"int8"}, run.said
    assert "plain.calib has no provenance" in run.stderr


def test_the_data_is_what_the_cache_depends_on(small: Project) -> None:
    write(small, CALIBRATED + CALIBRATE)
    assert small.doit().returncode == 0
    write_data(small.path, seed=1)
    run = small.doit()
    assert ".  calibrate:plain" in run.stdout
    assert built(run.stdout) == {"int8"}, run.said


def test_a_cache_of_other_weights_is_refused(small: Project) -> None:
    write(small, CALIBRATED + CALIBRATE)
    assert small.doit().returncode == 0
    made = small.path / ".enginery" / "calibration"
    for suffix in ("", ".provenance.json"):
        (small.path / f"plain.calib{suffix}").write_bytes(
            (made / f"plain.calib{suffix}").read_bytes()
        )
    write(small, CALIBRATED + 'calibration = "plain.calib"\n')
    assert small.doit().returncode == 0
    onnx_models.write_small(small.path / "plain.onnx", seed=2)
    run = small.doit("--continue")
    assert run.returncode != 0
    assert "plain.calib was made for another model" in run.stdout
    assert built(run.stdout) == {"fp32", "fp16"}, run.said


@pytest.mark.parametrize(
    ("cache", "words"),
    [
        (b"", "empty"),
        (b"hello\n", "line 1"),
        (b"TRT-100300-EntropyCalibration2\ninput: 7fc00000\n", "line 2"),
        (b"TRT-100300-EntropyCalibration2\ninput: 3c010a14\nother: 3c010a14\n", "other"),
        (b"TRT-100300-EntropyCalibration2\noutput: 3c010a14\n", "input"),
    ],
    ids=["empty", "header", "nan", "unknown tensor", "uncovered"],
)
def test_a_bad_cache(small: Project, cache: bytes, words: str) -> None:
    (small.path / "plain.calib").write_bytes(cache)
    write(small, PLAIN + 'precision = ["int8"]\ncalibration = "plain.calib"\n')
    run = small.doit()
    assert run.returncode == 1, run.said
    assert "plain: " in run.stdout
    assert "plain.calib" in run.stdout
    assert words in run.stdout, run.stdout
    assert "Traceback" not in run.said
    assert not list(small.engines.glob("*")) if small.engines.exists() else True


@pytest.mark.parametrize(
    ("backbones", "words"),
    [
        (PLAIN + 'precision = ["int8"]\n', "backbones.plain.calibration: int8 needs a calibration cache"),
        (PLAIN + 'precision = { rtz = ["fp16"] }\n', "backbones.plain.precision: 'rtz' is none of its targets; did you mean 'rtx'?"),
        (PLAIN + "[backbones.plain.builder]\navg_timing_iterations = 4\n", "backbones.plain.builder: avg_timing_iterations: TensorRT-RTX times no tactics"),
        (PLAIN + "[backbones.plain.builder]\ntactic_sources = ['CUDNN']\n", "backbones.plain.builder: tactic_sources: "),
        (PLAIN + "[backbones.plain.builder]\ntiling_optimization_level = 'full'\n", "backbones.plain.builder: tiling_optimization_level: "),
        (PLAIN + "[backbones.plain.builder.memory_pools]\ndla_local_dram = 4\n", "backbones.plain.builder: memory_pools.dla_local_dram: TensorRT-RTX has no DLA"),
        (PLAIN + "[backbones.plain.builder.memory_pools]\ntactic_ram = 4\n", "backbones.plain.builder.memory_pools: unknown key 'tactic_ram'; did you mean 'tactic_dram'?"),
        (PLAIN + "[backbones.plain.lowering]\nkeep_node = ['a']\n", "backbones.plain.lowering: unknown key 'keep_node'; did you mean 'keep_nodes'?"),
        (PLAIN + "[backbones.plain.check]\nfp15 = {}\n", "backbones.plain.check: unknown key 'fp15'"),
        (PLAIN + "[backbones.plain.check.fp16]\nmax_abz = 1.0\n", "backbones.plain.check.fp16: unknown key 'max_abz'; did you mean 'max_abs'?"),
        (PLAIN + "[backbones.plain.calibrate]\ndata = 'a'\nmethod = 'max'\n", "backbones.plain.calibrate.method: "),
        ("[backbones.check]\nonnx = 'plain.onnx'\nexpected_input_shape = [1]\n", "backbones.check: 'check' is a command; rename it"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_corpus(small: Project, backbones: str, words: str) -> None:
    write(small, backbones)
    run = small.doit("list")
    assert run.returncode == 3
    assert run.stderr.startswith(f"ERROR: corpus.toml: {words}"), run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_a_target_that_cannot_do_the_precision(small: Project) -> None:
    write(small, PLAIN + 'precision = ["bf16"]\n', HEAD.replace("[86, 89]", "75"))
    run = small.doit()
    assert run.returncode == 3
    assert "backbones.plain.precision: SM 75 has no bf16; use fp16" in run.stderr


def test_precision_per_target(small: Project) -> None:
    head = HEAD.replace('targets = ["rtx"]', 'targets = ["rtx", "turing"]')
    turing = '[targets.turing]\nruntime = "tensorrt_rtx"\nsm = 75\nprecision = ["fp16"]\n'
    write(small, turing + PLAIN, head)
    listed = small.doit("list", "--all").stdout
    assert "plain:rtx-fp32" in listed
    assert "plain:turing-fp16" in listed
    assert "turing-fp32" not in listed
    write(small, turing + PLAIN + 'precision = { rtx = ["fp16", "bf16"] }\n', head)
    listed = small.doit("list", "--all").stdout
    assert {name for name in listed.split() if name.startswith("plain:")} == {
        "plain:rtx-fp16", "plain:rtx-bf16", "plain:turing-fp16"}  # fmt: skip
    run = small.doit()
    assert run.returncode == 0, run.said
    assert run.stdout.count(".  lower:plain-fp16") == 1


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("[backbones.plain.lowering]\nkeep_operators = ['MatMul']\n", 'keep_operators: not set -> ["MatMul"]'),
        ("[backbones.plain.lowering]\nkeep_nodes = ['head']\n", 'keep_nodes: not set -> ["head"]'),
        ("[backbones.plain.lowering]\nio = 'lowered'\n", "io: not set -> lowered"),
        ("[backbones.plain.builder.memory_pools]\ntactic_shared_memory = 1\n", "memory_pools: not set -> "),
        ("[backbones.plain.builder]\nweight_streaming = true\n", "weight_streaming: not set -> true"),
    ],
)  # fmt: skip
def test_a_setting_builds_again(small: Project, lines: str, reason: str) -> None:
    write(small, PLAIN + "precision = ['fp16']\n")
    assert small.doit().returncode == 0
    before = small.snapshot()
    write(small, PLAIN + "precision = ['fp16']\n" + lines)
    assert reason in small.doit("info", "plain").stdout
    run = small.doit()
    assert run.returncode == 0, run.said
    assert built(run.stdout) == {"fp16"}
    assert small.snapshot() != before
    assert built(small.doit().stdout) == set()


def test_a_node_to_keep_that_is_not_there(small: Project) -> None:
    write(small, PLAIN + "precision = ['fp16']\n[backbones.plain.lowering]\nkeep_nodes = ['hed']\n")
    run = small.doit()
    assert run.returncode == 1
    assert "'hed'" in run.stdout
    assert "'head'" in run.stdout


def test_a_plugin_library_that_is_none(small: Project) -> None:
    (small.path / "plugin.so").write_bytes(b"no library")
    write(small, PLAIN + "[backbones.plain.builder]\nplugins = ['plugin.so']\n")
    run = small.doit()
    assert run.returncode == 1
    assert "plugin.so cannot be loaded: " in run.stdout
    (small.path / "plugin.so").unlink()
    run = small.doit()
    assert run.returncode == 1
    assert "plugin.so is not there; put it there or correct the path" in run.stdout


def test_check(small: Project) -> None:
    write(small, CALIBRATED + CALIBRATE)
    run = small.doit("check")
    assert run.returncode == 0, run.said
    for precision in ("fp16", "int8"):
        assert f".  check:plain:{precision}" in run.stdout
        report = json.loads(
            (small.path / ".enginery" / "checks" / f"plain_{precision}.check.json").read_text()
        )
        assert report["passed"] is True
        assert set(report["outputs"]) == {"output"}
        assert len(report["original_sha256"]) == len(report["lowered_sha256"]) == 64
    assert "cosine" in run.stdout
    assert not small.engines.exists()
    again = small.doit("check")
    assert not [line for line in again.stdout.splitlines() if line.startswith(".")], again.said
    assert "check" not in small.doit().stdout
    onnx_models.write_small(small.path / "plain.onnx", seed=3)
    assert ".  check:plain:fp16" in small.doit("check:plain").stdout


def test_a_check_that_fails(small: Project) -> None:
    strict = "[backbones.plain.check]\nsamples = 2\n[backbones.plain.check.fp16]\nmax_abs = 1e-9\n"
    write(small, PLAIN + "precision = ['fp16']\n" + strict)
    for _ in range(2):
        run = small.doit("check:plain")
        assert run.returncode == 1, run.said
        assert "plain in fp16: output 'output': absolute error" in run.stdout
        assert "is above 1e-09; see " in run.stdout
    assert small.doit("plain").returncode == 0


def test_an_engine_that_requires_its_check(small: Project) -> None:
    required = "precision = ['fp16']\nrequire_check = true\n"
    write(small, PLAIN + required)
    run = small.doit("plain")
    assert run.returncode == 0, run.said
    assert ".  check:plain" in run.stdout
    assert small.doit("plain").stdout.startswith("-- plain\n1 engine: 1 reused,")
    report = small.path / ".enginery" / "checks" / "plain_fp16.check.json"
    report.unlink()
    info = small.doit("info", "plain")
    assert "its lowered model has no passing check: it is not there" in info.stdout
    run = small.doit("plain")
    assert run.returncode == 0, run.said
    assert "fresh already" in run.stdout
    strict = "[backbones.plain.check.fp16]\nmin_snr_db = 200.0\n"
    write(small, PLAIN + required + strict)
    run = small.doit("plain")
    assert run.returncode != 0
    assert "signal-to-noise ratio" in run.stdout


def test_profiles_for_several_batches(small: Project) -> None:
    onnx_models.write_small(small.path / "plain.onnx", seed=1, batch="N")
    profiles = "".join(
        "[[backbones.plain.profiles]]\n"
        + "".join(
            f"{what} = {{ input = [{batch}, 3, 16, 16] }}\n" for what in ("min", "opt", "max")
        )
        for batch in (1, 4, 16)
    )
    write(small, '[backbones.plain]\nonnx = "plain.onnx"\nprecision = ["fp16"]\n' + profiles)
    run = small.doit()
    assert run.returncode == 0, run.said
    assert built(run.stdout) == {"fp16"}


def test_a_required_check_that_fails_builds_nothing_even_if_others_go_on(small: Project) -> None:
    strict = "require_check = true\n[backbones.plain.check.fp16]\nmin_snr_db = 200.0\n"
    write(small, PLAIN + "precision = ['fp16']\n" + strict)
    for arguments in (["--continue"], ["-n", "2", "--continue"]):
        run = small.doit(*arguments)
        assert run.returncode != 0
        assert "plain: its lowered model has no passing check" in run.stdout
        assert not list(small.engines.glob("*.engine"))


def test_check_data_that_is_not_there_or_says_nothing(small: Project) -> None:
    write(small, PLAIN + "precision = ['fp16']\ncheck = { data = 'more/*.npz' }\n")
    assert small.doit("list").returncode == 0
    run = small.doit("check")
    assert run.returncode == 1
    assert "no file in . matches 'more/*.npz'; put inputs there" in run.stdout
    (small.path / "more").mkdir()
    np.savez(small.path / "more" / "a.npz", input=np.full((1, 3, 16, 16), np.nan, np.float32))
    run = small.doit("check")
    assert run.returncode == 1
    assert "array 'input' has NaN or infinite elements" in run.stdout


def test_a_cache_of_a_user_is_not_overwritten(small: Project) -> None:
    (small.path / "plain.calib").write_text("TRT-8601-EntropyCalibration2\ninput: 3c010a14\n")
    own = 'precision = ["int8"]\ncalibration = "plain.calib"\n'
    write(small, PLAIN + own + CALIBRATE)
    run = small.doit()
    assert run.returncode == 1
    assert "plain.calib is there and was not computed here; remove it" in run.stdout
    assert small.doit("clean").returncode == 0
    assert (small.path / "plain.calib").read_text().startswith("TRT-8601")


def test_a_function_of_a_user_that_fails(small: Project) -> None:
    (small.path / "mine.py").write_text("def feeds():\n    yield {}['nothing']\n")
    write(small, PLAIN + 'precision = ["int8"]\ncalibrate = { data = "mine:feeds" }\n')
    run = small.doit()
    assert run.returncode == 1
    assert "mine:feeds failed with KeyError: 'nothing' (mine.py, line 2)" in run.stdout


def test_two_plugins_of_one_name_are_two_inputs(small: Project) -> None:
    for folder in ("one", "two"):
        (small.path / folder).mkdir()
        (small.path / folder / "p.so").write_bytes(folder.encode())
    write(small, PLAIN + "builder = { plugins = ['one/p.so', 'two/p.so'] }\n")
    inputs = _inputs_of(small)
    (small.path / "one" / "p.so").write_bytes(b"other")
    assert inputs != _inputs_of(small)


def _inputs_of(project: Project) -> dict[str, str]:
    (job,) = engine_jobs(read_corpus(project.path / "corpus.toml"))
    return job.plan.input_digests(InputDigests())
