"""Ctrl-C, SIGTERM, kill -9, and two at once: no orphan, no half engine, no work done twice."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import onnx_models
import pytest
from conftest import Project, wait_for

from enginery import Sha256Sidecar

SLOW = """\
[backbones.slow]
onnx = "slow.onnx"
input_name = "data_0"
expected_input_shape = [1, 3, 224, 224]
"""


@pytest.fixture
def slow_project(project: Project) -> Project:
    """Everything is fresh but `plain`, which builds first, and `slow`, which takes seconds."""
    onnx_models.write_slow(project.path / "slow.onnx")
    with (project.path / "corpus.toml").open("a") as corpus:
        corpus.write(SLOW)
    assert project.doit("clean", "plain").returncode == 0
    return project


def interrupt(project: Project, *arguments: str, by: signal.Signals, everyone: bool) -> None:
    running = project.start(*arguments)
    wait_for(lambda: project.processes("tensorrt_build:build") and list(_engines(project, "plain")))
    wait_for(lambda: project.processes("slow_sm"))
    (os.killpg if everyone else os.kill)(running.pid, by)
    assert running.wait(30) != 0
    wait_for(lambda: not project.processes(), seconds=10)


def _engines(project: Project, name: str) -> list[Path]:
    return list(project.engines.glob(f"{name}_*.engine.sha256"))


@pytest.mark.parametrize("arguments", [[], ["-n", "2"], ["-n", "2", "-P", "thread"]])
@pytest.mark.parametrize(
    ("by", "everyone"),
    [
        (signal.SIGINT, True),  # what a terminal does on Ctrl-C
        (signal.SIGTERM, False),
        (signal.SIGKILL, False),
    ],
)
def test_interrupted(
    slow_project: Project, arguments: list[str], by: signal.Signals, everyone: bool
) -> None:
    project = slow_project
    interrupt(project, *arguments, by=by, everyone=everyone)
    said = (project.path / "log").read_text()
    assert "Traceback" not in said, said
    assert ("interrupted; engines that were finished stay" in said) is (by is signal.SIGINT)
    assert not list(project.engines.glob("slow*"))
    assert Sha256Sidecar.verify(project.engine("plain"))
    run = project.doit("--continue")
    assert run.returncode == 0, run.said
    assert run.built == ["slow"]
    assert not [file for file in project.engines.iterdir() if file.name.startswith(".")]


def test_what_a_killed_run_left_is_cleared(project: Project) -> None:
    engine = project.engine("plain")
    leftovers = [
        engine.with_name(f".{engine.name}{suffix}.0a1b2c3d.tmp")
        for suffix in ("", ".sha256", ".provenance.json")
    ]
    foreign = engine.with_name(".other.tmp")
    for file in (*leftovers, foreign):
        file.write_bytes(b"half")
    engine.unlink()
    assert project.doit().built == ["plain"]
    assert [file for file in (*leftovers, foreign) if file.exists()] == [foreign]


def test_two_at_once_build_each_engine_once(slow_project: Project) -> None:
    project = slow_project
    (project.path / "corpus.toml").write_text(
        (project.path / "corpus.toml").read_text().replace("workspace_mb = 64", "workspace_mb = 65")
    )
    runs = []
    for name in ("first", "second"):
        runs.append(project.start())
        (project.path / "log").rename(project.path / name)
    assert [run.wait(120) for run in runs] == [0, 0]
    said = (project.path / "first").read_text() + (project.path / "second").read_text()
    built = re.findall(r"^(\S+?)_sm\S+: .*, built in", said, re.MULTILINE)
    assert sorted(built) == ["external", "half", "plain", "slow"]
    run = project.doit()
    assert (run.returncode, run.built) == (0, [])


def test_what_a_killed_run_left_of_a_fresh_engine_is_cleared(project: Project) -> None:
    engine = project.engine("plain")
    gone = [
        engine.with_name(f".{engine.name}.sha256.0a1b2c3d.tmp"),
        engine.with_name(f".{engine.name.replace('sm86', 'sm75')}.0a1b2c3d.tmp"),
        engine.with_name(f".{engine.name}.lock"),
    ]
    stays = [engine.with_name(".notes.tmp"), engine.with_name(f".{engine.name}.notes.tmp")]
    for file in (*gone, *stays):
        file.write_bytes(b"half")
    assert project.doit("list").returncode == 0
    assert all(file.exists() for file in gone)
    assert project.doit().built == []
    assert [file for file in (*gone, *stays) if file.exists()] == stays
