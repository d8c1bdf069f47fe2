"""Whole builds of enterprise TensorRT, over objects made from NVIDIA's own bindings.

`tests/contract` says what of that is real. Nothing is built: what is tested here is our side, from
the parent's place for a build to the timing cache.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx_models
import pytest

pytestmark = pytest.mark.slow

BINDINGS = Path(__file__).parents[1] / "contract" / "bindings.py"

# The build number, which the bindings lack up to 10.7, is in the metadata of the libraries.
VERSIONS = {"10.3": "10.3.0.30", "11.4": "11.4.0.106"}

BUILD = """
import json, logging, os, sys
from pathlib import Path
os.environ.update(json.loads(sys.argv[2]))
from enginery import *
from enginery.runtimes.tensorrt import TensorRT

logging.basicConfig(format="%(message)s", level=logging.WARNING)
asked = json.loads(sys.argv[1])
compiler = EngineCompiler(inference_runtime=TensorRT(), logger=logging.getLogger("tests"))
request = EngineCompileRequest(
    backbones=(BackboneSpec("small", Path("small.onnx"), (1, 3, 16, 16),
                            builder=BuilderOptions(**asked.get("builder", {}))),),
    calibration_path=None, cache_root=Path(asked["engines"]), precision=PrecisionMode.FP32,
    host=HostCapabilities(87, "6.2", asked["trt"]), workspace_mb=64,
)
try:
    (result,) = compiler.compile_engines_for_corpus(request)
except EngineryError as error:
    sys.exit(f"{type(error).__name__}: {error}")
print(result.outcome.value, read_verified(result.entry.engine_path).decode())
"""


class Machine:
    """A Jetson that is declared, with the bindings of a TensorRT and a folder of its own."""

    def __init__(self, version: str, folder: Path) -> None:
        self.version, self.trt, self.folder = version, VERSIONS[version], folder
        metadata = folder / "site" / f"tensorrt_cu12_libs-{self.trt}.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(
            f"Metadata-Version: 2.1\nName: tensorrt_cu12_libs\nVersion: {self.trt}\n"
        )
        onnx_models.write_small(folder / "small.onnx", seed=1)

    @property
    def cache(self) -> Path:
        """The one timing cache."""
        (found,) = self.folder.glob("cache/enginery/timing/*")
        return found

    def run(
        self, engines: str, settings: dict[str, Any] | None = None, **asked: Any
    ) -> subprocess.CompletedProcess[str]:
        """Build once; `settings` are those of `behaviour`."""
        asked = {"engines": engines, "trt": self.trt, **asked}
        environment = {
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "ENGINERY_HOST": f"sm=87 jetpack=6.2 trt={asked['trt']}",
            "ENGINERY_CONTRACT_CALLS": str(self.folder / "calls"),
            "ENGINERY_CONTRACT_SETTINGS": json.dumps(settings or {}),
        }
        (self.folder / "calls").write_text("")
        path = (str(self.folder / "site"), os.environ.get("PYTHONPATH"))
        command = [sys.executable, BINDINGS, self.version, "--stand-ins", "-c", BUILD]
        return subprocess.run(
            [*command, json.dumps(asked), json.dumps(environment)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def calls(self, name: str) -> list[dict[str, Any]]:
        """Arguments of the calls of a method, or values of a property, in the last run."""
        calls = map(json.loads, (self.folder / "calls").read_text().splitlines())
        return [arguments for _, called, arguments in calls if called == name]


@pytest.fixture(params=list(VERSIONS))
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(request.param, tmp_path)


def built(run: subprocess.CompletedProcess[str]) -> list[str]:
    """What was said, besides that it is being built."""
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("built stand-in for an engine"), run.stdout
    return [line for line in run.stderr.splitlines() if not line.startswith("building ")]


def test_an_engine_is_published_and_not_built_again(machine: Machine) -> None:
    assert built(machine.run("engines")) == []
    (engine,) = machine.folder.glob("engines/*.engine")
    assert engine.name == f"small_sm87_jp6.2_trt{machine.trt}_fp32.engine"
    again = machine.run("engines")
    assert again.stdout.startswith("reused ")
    assert machine.calls("__init__") == []


def test_it_is_loaded_before_it_is_published(machine: Machine) -> None:
    run = machine.run("engines", {"load_error": "Serialization assertion failed"})
    assert "cannot be loaded: Serialization assertion failed; nothing was published" in run.stderr
    assert list((machine.folder / "engines").iterdir()) == []
    assert machine.calls("engine_host_code_allowed") == [{"value": False}]


def test_no_host_code_in_a_version_compatible_engine(machine: Machine) -> None:
    built(machine.run("engines", builder={"version_compatible": True}))
    flags = [arguments["flag"] for arguments in machine.calls("set_flag")]
    assert {"BuilderFlag.VERSION_COMPATIBLE", "BuilderFlag.EXCLUDE_LEAN_RUNTIME"} <= set(flags)


def test_another_tensorrt_is_installed(machine: Machine) -> None:
    run = machine.run("engines", trt="10.3.0.26" if machine.version == "10.3" else "11.4.1.8")
    assert f", {machine.trt} is installed here" in run.stderr
    assert machine.calls("__init__") == []


def test_words_of_a_gpu_that_is_full(machine: Machine) -> None:
    words = "Error Code 2: OutOfMemory (Requested size was 1073741824 bytes.)"
    run = machine.run("engines", {"build_error": words})
    assert run.stderr.splitlines()[-1] == (
        f"EngineBuildError: {words}; free memory of the GPU, or lower workspace_mb"
    )


def test_an_error_for_a_tactic_that_is_skipped_is_a_warning(machine: Machine) -> None:
    words = "Error Code 2: OutOfMemory (Requested size was 1073741824 bytes.)"
    (warning,) = built(machine.run("engines", {"tactic_errors": [words, words]}))
    assert warning == (
        f"small.onnx: TensorRT logged errors and went on, so the engine may be slow: {words}; "
        "free memory of the GPU, or lower workspace_mb"
    )


def test_a_timing_cache_is_kept_and_used(machine: Machine) -> None:
    assert built(machine.run("first")) == []
    assert machine.cache.name == f"GPU-of-SM-8.7_sm87_cuda-unknown_trt{machine.trt}.cache"
    kept = machine.cache.read_bytes()
    assert kept.endswith(b"\nstand-in for a timing cache")
    assert built(machine.run("second")) == []
    given = [
        arguments["serialized_timing_cache"] for arguments in machine.calls("create_timing_cache")
    ]
    assert given == ["", "stand-in for a timing cache"]
    assert machine.calls("combine") == []
    assert machine.cache.read_bytes() == kept
    assert [path.name for path in machine.cache.parent.iterdir()] == [machine.cache.name]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "garbage"])
def test_a_damaged_timing_cache_is_never_given_to_tensorrt(machine: Machine, damage: str) -> None:
    built(machine.run("first"))
    kept = machine.cache.read_bytes()
    flipped = kept[:-1] + bytes([kept[-1] ^ 1])
    damaged = {"cut": kept[:-4], "flipped": flipped, "empty": b"", "garbage": b"\xff" * 999}
    machine.cache.write_bytes(damaged[damage])
    (warning,) = built(machine.run("second"))
    assert warning.startswith(f"the timing cache {machine.cache} is not used: it is damaged; ")
    given = {
        arguments["serialized_timing_cache"] for arguments in machine.calls("create_timing_cache")
    }
    assert given == {""}
    assert machine.cache.read_bytes() == kept


def test_a_timing_cache_of_another_gpu(machine: Machine) -> None:
    built(machine.run("first"))
    (warning,) = built(machine.run("second", {"refused_cache": True}))
    assert "is not used: it is not of this GPU, CUDA and TensorRT; " in warning


def test_a_timing_cache_that_cannot_be_read_or_written(machine: Machine) -> None:
    built(machine.run("first"))
    path = machine.cache
    path.unlink()
    path.mkdir()
    (warning,) = built(machine.run("second"))
    assert "is not used: it cannot be read: " in warning
    # A directory in its place was moved aside.
    assert path.is_file()
    shutil.rmtree(path.parent)
    path.parent.touch()
    (warning,) = built(machine.run("third"))
    assert "is not used: it cannot be " in warning


def test_a_timing_cache_that_is_used_and_cannot_be_written(machine: Machine) -> None:
    built(machine.run("first"))
    kept = machine.cache.read_bytes()
    machine.cache.with_name(f".{machine.cache.name}.lock").mkdir()
    (warning,) = built(machine.run("second"))
    given = machine.calls("create_timing_cache")
    assert given[-1] == {"serialized_timing_cache": "stand-in for a timing cache"}
    path = machine.folder / "cache" / "enginery" / "timing"
    assert warning.startswith(f"the timing cache {path}")
    assert " cannot be written: " in warning
    assert warning.endswith("; the next build measures anew what this one did")
    assert kept in [found.read_bytes() for found in path.iterdir() if found.is_file()]


# Eight builds that measured something each, all at once, and keep it.
KEEP = """
import os, subprocess, sys
from pathlib import Path
import tensorrt as trt
from enginery.runtimes.tensorrt_log import Log
from enginery.runtimes.timing_cache import TimingCache

if sys.argv[2:]:
    log = Log(trt)
    config = trt.Builder(log.sink).create_builder_config()
    kept = TimingCache(Path(sys.argv[1]), log)
    kept.attach(config)
    measured = config.create_timing_cache(sys.argv[2].encode())
    if config.get_timing_cache() is None:
        config.set_timing_cache(measured, ignore_mismatch=False)
    else:
        config.get_timing_cache().combine(measured, ignore_mismatch=False)
    print(flush=True)
    sys.stdin.read()
    kept.save(config)
    sys.exit("; ".join(log.warnings) or 0)
command, pipe = [sys.executable, "-c", os.environ["KEEP"], sys.argv[1]], subprocess.PIPE
children = [subprocess.Popen([*command, f"build-{n}"], stdin=pipe, stdout=pipe) for n in range(8)]
for child in children:
    child.stdout.readline()
for child in children:
    child.stdin.close()
sys.exit(sum(child.wait() for child in children))
"""


def test_what_others_kept_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "timing" / "gpu.cache"
    done = subprocess.run(
        [sys.executable, BINDINGS, "10.3", "--stand-ins", "-c", KEEP, path],
        env={**os.environ, "KEEP": KEEP},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    kept = path.read_bytes()
    assert all(f"build-{number}".encode() in kept for number in range(8)), kept
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


START = """
import json, sys
from enginery.errors import EngineBuildError
from enginery.runtimes.tensorrt_build import build
try:
    build(json.loads(sys.argv[1]))
except EngineBuildError as error:
    print(error)
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_tensorrt_without_a_gpu(version: str, tmp_path: Path) -> None:
    """The real bindings say that they got no builder from the library, and not why."""
    request = {
        "module": "tensorrt", "version": VERSIONS[version], "model": "no.onnx", "output": "no",
        "capabilities": [87], "workspace_mb": 1, "profiles": [], "builder": {}, "plugins": [],
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, BINDINGS, version, "-c", START, json.dumps(request)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout == (
        "TensorRT cannot start on this machine: no reason given; see that the NVIDIA driver works "
        "and that this process may use the GPU\n"
    ), done.stderr
