"""A corpus for a fleet on a machine without a GPU: what can be built is, the rest is named."""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path

import onnx_models
import pytest
from conftest import Project

from enginery import BuildConfig, EngineCacheEntry, EngineCompiler
from enginery.corpus import read_corpus
from enginery.digest import sha256_file
from enginery.jobs import engine_jobs
from enginery.runtimes.tensorrt import TensorRT

FLEET = """\
schema = 1
[corpus]
engines = "engines"
precision = ["fp32"]
targets = ["orin", "rtx", "cpu"]
workspace_mb = 64
[targets.orin]
runtime = "tensorrt"
sm = 87
jetpack = "6.2"
trt = "10.3.0.30"
[targets.rtx]
runtime = "tensorrt_rtx"
sm = [86, 89]
[targets.cpu]
runtime = "onnxruntime"
[backbones.plain]
onnx = "plain.onnx"
expected_input_shape = [1, 3, 16, 16]
[backbones.external]
onnx = "external.onnx"
expected_input_shape = [1, 3, 16, 16]
"""

NEEDS = "SM 8.7, JetPack 6.2, TensorRT 10.3.0.30"


@pytest.fixture
def fleet(new_project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv("ENGINERY_HOST", raising=False)
    (new_project.path / "corpus.toml").write_text(FLEET)
    onnx_models.write_small(new_project.path / "plain.onnx", seed=1)
    onnx_models.write_small(new_project.path / "external.onnx", seed=3, weights="weights.bin")
    return new_project


def test_what_can_be_built_is_built_before_the_rest_fails(fleet: Project) -> None:
    run = fleet.doit()
    assert run.returncode == 1, run.said
    assert sorted(run.built) == ["external", "external", "plain", "plain"]
    assert "Traceback" not in run.said
    (failure,) = re.findall(r"^plain:orin-fp32: .*", run.stdout, re.MULTILINE)
    assert f"cannot be built here: it needs a host with {NEEDS}" in failure
    assert "without a GPU" in failure
    assert "store" in failure
    assert 'elsewhere = "skip" under [targets.orin]' in failure
    assert failure.endswith("not built here either: external:orin-fp32")
    assert not list(fleet.engines.glob("*sm87*"))
    assert not list(fleet.engines.glob(".*"))

    again = fleet.doit()
    assert again.returncode == 1
    assert again.built == []


@pytest.mark.parametrize(
    "arguments",
    [["-n", "4"], ["-n", "4", "-P", "thread"], ["plain"], ["plain", "external"], ["plain:*"]],
)
def test_nothing_that_fails_here_keeps_the_rest_from_being_built(
    fleet: Project, arguments: list[str]
) -> None:
    """In fp16, whose engines wait for their lowered model while the failing one need not."""
    fleet.edit("corpus.toml", 'precision = ["fp32"]', 'precision = ["fp16"]')
    run = fleet.doit(*arguments)
    assert run.returncode == 1, run.said
    both = "external" in arguments or "-n" in arguments
    assert sorted(run.built) == (["external"] * 2 if both else []) + ["plain"] * 2
    assert "Traceback" not in run.said


def test_what_fails_of_one_corpus_comes_after_another_corpus(fleet: Project) -> None:
    (fleet.path / "other.toml").write_text(
        FLEET.replace('"orin", "rtx", "cpu"', '"rtx"').replace("backbones.", "backbones.other_")
        .replace('"engines"', '"others"')
    )  # fmt: skip
    with (fleet.path / "dodo.py").open("a") as dodo:
        dodo.write('def task_others():\n    yield from engine_tasks("other.toml")\n')
    run = fleet.doit()
    assert run.returncode == 1, run.said
    assert {"other_plain", "other_external", "plain", "external"} == set(run.built)


def test_what_is_there_and_fresh_is_not_named(fleet: Project) -> None:
    run = fleet.doit("plain:orin-fp32")
    assert "either" not in run.stdout or "external:orin-fp32" in run.stdout
    forge(fleet, "external")
    run = fleet.doit()
    assert run.returncode == 1
    assert "either" not in run.stdout


def forge(fleet: Project, name: str) -> Path:
    """An engine for the Orin as it comes from there: other bytes, right proofs."""
    corpus = read_corpus(fleet.path / "corpus.toml")
    (job,) = [
        job for job in engine_jobs(corpus) if (job.name, job.target) == (name, "orin")
    ]  # fmt: skip

    class Orin(TensorRT):
        builds_anywhere = True

        def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
            def make(output: Path) -> str:
                output.write_bytes(b"as if from an Orin")
                return sha256_file(output)

            return self.published(build_config, make)

    compiler = EngineCompiler(inference_runtime=Orin(), logger=logging.getLogger("forge"))
    compiler.compile_engines_for_corpus(job.request)
    return job.plan.path


def test_an_engine_from_elsewhere_is_believed_damaged_or_stale(fleet: Project) -> None:
    for name in ("plain", "external"):
        forge(fleet, name)
    run = fleet.doit()
    assert run.returncode == 0, run.said
    assert "-- plain:orin-fp32" in run.stdout
    engine = fleet.engines / "plain_sm87_jp6.2_trt10.3.0.30_fp32.engine"
    engine.write_bytes(b"as if from an 0rin")
    run = fleet.doit()
    assert run.returncode == 1
    assert "is not fresh (" in run.stdout
    assert "is damaged" in run.stdout
    assert "cannot be built here" in run.stdout
    fleet.edit("corpus.toml", "sm = 87\n", 'sm = 87\nelsewhere = "skip"\n')
    run = fleet.doit()
    assert run.returncode == 0
    assert "-- plain:orin-fp32 (left out: what is there is not fresh, " in run.stdout
    assert re.search(r"^-- external:orin-fp32$", run.stdout, re.MULTILINE)


def test_require_check_of_an_engine_from_elsewhere(fleet: Project) -> None:
    fleet.edit("corpus.toml", 'precision = ["fp32"]', 'precision = ["fp16"]\nrequire_check = true')
    run = fleet.doit("plain:orin-fp16")
    assert run.returncode == 1
    assert "cannot be built here" in run.stdout
    forge(fleet, "plain")
    run = fleet.doit("plain:orin-fp16")
    assert run.returncode == 0, run.said


def test_a_host_that_is_another_target_too(fleet: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on the Orin itself: the target that has a name of its own counts."""
    monkeypatch.setenv("ENGINERY_HOST", "sm=87 jetpack=6.2 trt=10.3.0.30")
    fleet.edit(
        "corpus.toml", "[targets.rtx]", '[targets.host]\nruntime = "tensorrt"\n[targets.rtx]'
    )
    fleet.edit("corpus.toml", '["orin", "rtx", "cpu"]', '["host", "orin"]')
    listed = fleet.doit("list", "--all")
    assert listed.returncode == 0, listed.said
    assert re.search(r"^plain:host-fp32 +this host is another target: plain:orin-fp32$",
                     listed.stdout, re.MULTILINE)  # fmt: skip
    for name in ("plain", "external"):
        forge(fleet, name)
    assert fleet.doit("plain:host-fp32").returncode == 0


@pytest.mark.parametrize(
    ("declared", "runtime", "words"),
    [
        ("sm=75 trt=8.6.1", "tensorrt", "TensorRT 8.6.1 is not supported"),
        ("sm=87 trt=10.3.0.30", "tensorrt", "add its JetPack"),
        ("sm=90", "tensorrt_rtx", "TensorRT-RTX builds nothing for SM 90"),
        ("sm=87", "tensorrt", "has no trt"),
    ],
)
def test_a_host_that_its_runtime_cannot_serve_fails_its_own_tasks(
    fleet: Project, monkeypatch: pytest.MonkeyPatch, declared: str, runtime: str, words: str
) -> None:
    monkeypatch.setenv("ENGINERY_HOST", declared)
    fleet.edit(
        "corpus.toml", "[targets.rtx]", f'[targets.host]\nruntime = "{runtime}"\n[targets.rtx]'
    )
    fleet.edit("corpus.toml", '["orin", "rtx", "cpu"]', '["host", "rtx"]')
    assert fleet.doit("host").returncode == 0
    run = fleet.doit()
    assert run.returncode == 1, run.said
    assert words in run.stdout
    assert sorted(run.built) == ["external", "plain"]
    assert words in fleet.doit("info", "plain:host-fp32").stdout


def test_each_is_named_where_doit_goes_on(fleet: Project) -> None:
    run = fleet.doit("--continue")
    assert run.returncode != 0
    failures = re.findall(r"^(\w+):orin-fp32: .*cannot be built here", run.stdout, re.MULTILINE)
    assert failures == ["plain", "external"]
    assert "either" not in run.stdout


def test_a_target_may_be_left_out(fleet: Project) -> None:
    fleet.edit("corpus.toml", "sm = 87\n", 'sm = 87\nelsewhere = "skip"\n')
    run = fleet.doit()
    assert run.returncode == 0, run.said
    assert sorted(run.built) == ["external", "external", "plain", "plain"]
    assert re.search(rf"^-- plain:orin-fp32 \(left out: .*{NEEDS}", run.stdout, re.MULTILINE)
    again = fleet.doit()
    assert (again.returncode, again.built) == (0, [])
    assert not re.search(r"^\.", again.stdout, re.MULTILINE)
    assert "; left out here: it needs a host" in fleet.doit("info", "plain:orin-fp32").stdout
    forced = fleet.doit("-a", "plain:orin-fp32")
    assert forced.returncode == 0, forced.said
    assert "plain:orin-fp32 is left out" in forced.stdout


def test_lists_and_names_work_everywhere(fleet: Project) -> None:
    listed = fleet.doit("list", "--all", "--status")
    assert listed.returncode == 0, listed.said
    line = re.search(r"^R plain:orin-fp32 .*$", listed.stdout, re.MULTILINE)
    assert line is not None, listed.stdout
    assert f"tensorrt engine in fp32 for {NEEDS}; cannot be built here" in line[0]
    info = fleet.doit("info", "plain:orin-fp32")
    assert "plain_sm87_jp6.2_trt10.3.0.30_fp32.engine" in info.stdout


def test_a_lowered_model_is_not_made_for_an_engine_that_cannot_be(fleet: Project) -> None:
    fleet.edit("corpus.toml", "[targets.rtx]", 'precision = ["fp16"]\n[targets.rtx]')
    run = fleet.doit("plain:orin-fp16")
    assert run.returncode == 1
    assert "cannot be built here" in run.stdout
    assert not (fleet.path / ".enginery" / "lowered").exists()


def test_this_host_as_a_target_where_it_has_no_gpu(fleet: Project) -> None:
    fleet.edit(
        "corpus.toml", "[targets.rtx]", '[targets.host]\nruntime = "tensorrt"\n[targets.rtx]'
    )
    fleet.edit("corpus.toml", '["orin", "rtx", "cpu"]', '["host", "rtx"]')
    run = fleet.doit()
    assert run.returncode == 1, run.said
    assert sorted(run.built) == ["external", "plain"]
    (failure,) = re.findall(r"^plain:host-fp32: .*", run.stdout, re.MULTILINE)
    assert "no GPU was found" in failure
    assert "elsewhere" in failure
    fleet.edit("corpus.toml", "[targets.host]", '[targets.host]\nelsewhere = "skip"')
    run = fleet.doit()
    assert (run.returncode, run.built) == (0, []), run.said
    assert re.search(r"^-- plain:host-fp32 \(left out: no GPU", run.stdout, re.MULTILINE)


@pytest.mark.parametrize("how", ["environment", "corpus"])
def test_a_declared_host(fleet: Project, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Its target can be planned; that TensorRT is not here is the build's to say."""
    if how == "environment":
        monkeypatch.setenv("ENGINERY_HOST", "sm=87 jetpack=6.2 trt=10.3.0.30")
    else:
        fleet.edit("corpus.toml", "[targets.orin]",
                   '[host]\nsm = 87\njetpack = "6.2"\ntrt = "10.3.0.30"\n[targets.orin]')  # fmt: skip
    fleet.edit(
        "corpus.toml", "[targets.rtx]", '[targets.host]\nruntime = "tensorrt"\n[targets.rtx]'
    )
    fleet.edit("corpus.toml", '["orin", "rtx", "cpu"]', '["host"]')
    info = fleet.doit("info", "plain")
    assert "plain_sm87_jp6.2_trt10.3.0.30_fp32.engine" in info.stdout, info.said
    run = fleet.doit("plain")
    assert run.returncode == 1
    assert "TensorRT is not installed" in run.stdout
    assert "Traceback" not in run.said


def test_an_engine_that_came_from_elsewhere_is_fresh(fleet: Project) -> None:
    """Built under a target of CPU engines, then the corpus is read on another CPU."""
    fleet.edit("corpus.toml", '["orin", "rtx", "cpu"]', '["cpu"]')
    assert fleet.doit().returncode == 0
    (engine,) = fleet.engines.glob("plain_*.engine")
    level = re.search(r"cpu-([^_]+)", engine.name)
    assert level is not None
    fleet.edit("corpus.toml", 'runtime = "onnxruntime"\n',
               f'runtime = "onnxruntime"\n[host]\ncpu = "another-{level[1]}"\n')  # fmt: skip
    run = fleet.doit()
    assert run.returncode == 1, run.said
    assert f"another-{level[1]}" in run.stdout


def test_a_missing_sm_is_a_mistake_but_for_this_host(fleet: Project) -> None:
    fleet.edit("corpus.toml", "sm = 87\n", "")
    run = fleet.doit("list")
    assert run.returncode == 3
    assert run.stderr == (
        "ERROR: corpus.toml: targets.orin: the key 'sm' is missing; add it, for example "
        "sm = [86, 89, 120], or call the target 'host', which is this machine\n"
    )


@pytest.mark.parametrize("value", ["sm=eighty", "jetpack", "sm=87 sm=88", "=", "sm=87 color=red"])
def test_a_host_that_is_declared_wrongly(
    fleet: Project, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("ENGINERY_HOST", value)
    for command in (["host"], ["list"], []):
        run = fleet.doit(*command)
        assert run.returncode == 3, run.said
        assert run.stderr.startswith("ERROR: ")
        assert "ENGINERY_HOST" in run.stderr
        assert run.stderr.count("\n") == 1


class TestHostCommand:
    def test_as_a_table(self, fleet: Project) -> None:
        run = fleet.doit("host")
        assert run.returncode == 0, run.said
        assert re.search(r"^GPU +none$", run.stdout, re.MULTILINE)
        assert re.search(r"^CPU +\S+", run.stdout, re.MULTILINE)
        assert re.search(rf"^orin +tensorrt +2 +no: .*{NEEDS}", run.stdout, re.MULTILINE)
        assert re.search(r"^rtx +tensorrt_rtx +2 +yes: SM 8\.6, 8\.9", run.stdout, re.MULTILINE)
        assert re.search(r"^cpu +onnxruntime +2 +yes: CPU ", run.stdout, re.MULTILINE)
        assert not fleet.engines.exists()

    def test_as_json(self, fleet: Project) -> None:
        run = fleet.doit("host", "--json")
        assert run.returncode == 0, run.said
        said = json.loads(run.stdout)
        assert said["version"] == 1
        assert said["host"]["gpus"] == []
        assert said["host"]["remarks"]
        (corpus,) = said["corpora"]
        assert corpus["path"] == "corpus.toml"
        targets = {target["name"]: target for target in corpus["targets"]}
        assert targets["orin"]["built_here"] is False
        assert NEEDS in targets["orin"]["reason"]
        assert targets["orin"]["hardware"] == {
            "sm": 87, "jetpack": "6.2", "trt": "10.3.0.30", "cpu": None,
        }  # fmt: skip
        assert targets["rtx"]["built_here"] is True
        assert targets["rtx"]["reason"] is None
        assert targets["cpu"]["hardware"]["cpu"] == said["host"]["cpu"]

    def test_without_a_dodo_file(self, fleet: Project) -> None:
        (fleet.path / "dodo.py").unlink()
        run = fleet.doit("host")
        assert run.returncode == 0, run.said
        assert re.search(r"^GPU +none$", run.stdout, re.MULTILINE)

    def test_with_a_broken_corpus(self, fleet: Project) -> None:
        fleet.edit("corpus.toml", "schema = 1", "schema = 7")
        run = fleet.doit("host")
        assert run.returncode == 3
        assert "version 7 is unknown" in run.stderr

    def test_arguments_are_refused(self, fleet: Project) -> None:
        run = fleet.doit("host", "orin")
        assert run.returncode == 3
        assert "takes no arguments" in run.stderr

    def test_of_a_declared_host(self, fleet: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ENGINERY_HOST", "sm=87 jetpack=6.2 trt=10.3.0.30")
        run = fleet.doit("host")
        assert re.search(r"^host +ENGINERY_HOST$", run.stdout, re.MULTILINE)
        assert re.search(r"^orin +tensorrt +2 +yes: SM 8\.7", run.stdout, re.MULTILINE)


def test_a_run_with_nothing_to_do_loads_no_driver(fleet: Project) -> None:
    fleet.edit("corpus.toml", "sm = 87\n", 'sm = 87\nelsewhere = "skip"\n')
    assert fleet.doit().returncode == 0
    (fleet.path / "dodo.py").write_text(
        (fleet.path / "dodo.py").read_text()
        + "import atexit, sys\n"
        + "heavy = {'tensorrt', 'tensorrt_rtx', 'onnx', 'onnxruntime', 'numpy', 'polygraphy'}\n"
        + "atexit.register(lambda: print('loaded', sorted(heavy & sys.modules.keys())))\n"
    )
    run = fleet.doit()
    assert run.returncode == 0
    assert "loaded []" in run.stdout


def test_nothing_is_left_of_a_refused_build(fleet: Project) -> None:
    run = fleet.doit("plain:orin-fp32")
    assert run.returncode == 1
    left = [file.name for file in fleet.engines.iterdir()] if fleet.engines.exists() else []
    assert [name for name in left if not name.endswith(".lock")] == []
    shutil.rmtree(fleet.engines, ignore_errors=True)
