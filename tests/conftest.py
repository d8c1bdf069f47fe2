"""A project as a user has it, and the real doit to run in it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx_models
import pytest

DODO = """\
from enginery.doit import doit_config, engine_tasks

DOIT_CONFIG = doit_config()


def task_engines():
    yield from engine_tasks("corpus.toml")
"""

CORPUS = """\
schema = 1
[corpus]
engines = "engines"
precision = ["fp32"]
targets = ["rtx"]
workspace_mb = 64
[targets.rtx]
runtime = "tensorrt_rtx"
sm = [86, 89]
[backbones.plain]
onnx = "plain.onnx"
expected_input_shape = [1, 3, 16, 16]
[backbones.external]
onnx = "external.onnx"
expected_input_shape = [1, 3, 16, 16]
[backbones.half]
onnx = "half.onnx"
expected_input_shape = [1, 3, 16, 16]
precision = ["fp16"]
"""

ON_ORIN = """\
[targets.orin]
runtime = "tensorrt"
sm = 87
jetpack = "6.2"
trt = "10.3.0.30"
elsewhere = "{}"
[backbones.plain]
targets = ["rtx", "orin"]
"""
"""A backbone for another host, too; what becomes of its engine there is filled in."""


@dataclass(frozen=True)
class Run:
    """What one call of doit did and said."""

    returncode: int
    stdout: str
    stderr: str
    built: list[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "built", re.findall(r"^(\S+)_(?:sm|cpu-)\S+: .*, built in", self.stdout, re.M)
        )

    @property
    def said(self) -> str:
        return self.stdout + self.stderr


@dataclass(frozen=True)
class Project:
    """A folder with dodo.py, corpus.toml and models."""

    path: Path

    @property
    def engines(self) -> Path:
        return self.path / "engines"

    def engine(self, backbone: str) -> Path:
        (found,) = self.engines.glob(f"{backbone}_sm*.engine")
        return found

    def doit(self, *arguments: str, timeout: float = 300) -> Run:
        done = subprocess.run(
            [sys.executable, "-m", "doit", *arguments],
            cwd=self.path,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Run(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start doit in a session of its own, as a terminal would."""
        with (self.path / "log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "doit", *arguments],
                cwd=self.path,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def processes(self, words: str = "") -> list[int]:
        """Processes that run in this folder with these words in their command line."""
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and _runs_in(entry, self.path, words)
        ]

    def edit(self, name: str, before: str, after: str) -> None:
        file = self.path / name
        text = file.read_text()
        assert before in text
        file.write_text(text.replace(before, after))

    def snapshot(self) -> dict[str, tuple[int, int, bytes]]:
        """Name to inode, mtime and bytes of whatever is in the engine folder."""
        return {
            file.name: (file.stat().st_ino, file.stat().st_mtime_ns, file.read_bytes())
            for file in sorted(self.engines.iterdir())
        }


def flip_bit(path: Path, offset: int = -100) -> None:
    """Flip one bit and leave size and mtime as they were."""
    info = path.stat()
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a condition holds; a test must not hang on one that never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def _runs_in(entry: Path, folder: Path, words: str) -> bool:
    try:
        state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        inside = (entry / "cwd").resolve() == folder
        return inside and state != "Z" and words in (entry / "cmdline").read_text()
    except OSError:
        return False


@pytest.fixture(scope="session", autouse=True)
def _no_store_of_the_user() -> Iterator[None]:
    """What one test built must not come back in another; tests of the store name their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENGINERY_STORE", "off")
        yield


@pytest.fixture(scope="session")
def built_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that was built once; never changed, only copied."""
    project = Project(tmp_path_factory.mktemp("built"))
    (project.path / "dodo.py").write_text(DODO)
    (project.path / "corpus.toml").write_text(CORPUS)
    onnx_models.write_small(project.path / "plain.onnx", seed=1)
    onnx_models.write_small(project.path / "half.onnx", seed=2)
    onnx_models.write_small(project.path / "external.onnx", seed=3, weights="weights.bin")
    run = project.doit()
    assert run.returncode == 0, run.said
    assert run.built == ["plain", "external", "half"]
    return project


@pytest.fixture
def project(built_project: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of the built project; whatever a test starts in it ends with the test."""
    copy = Project(tmp_path / "project")
    shutil.copytree(built_project.path, copy.path)
    yield copy
    for process in copy.processes():
        os.kill(process, signal.SIGKILL)


@pytest.fixture
def new_project(tmp_path: Path) -> Iterator[Project]:
    """A project with dodo.py alone."""
    project = Project(tmp_path / "project")
    project.path.mkdir()
    (project.path / "dodo.py").write_text(DODO)
    yield project
    for process in project.processes():
        os.kill(process, signal.SIGKILL)


def pytest_configure() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would all that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
