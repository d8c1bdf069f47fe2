"""A fleet with a registry: pushed once, pulled everywhere, never believed without a look."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx_models
import pytest
from conftest import Project

sys.path.append(str(Path(__file__).parents[1] / "store"))

from registry_server import Server, free_port, login_file, serve

pytestmark = pytest.mark.skipif(
    shutil.which("docker-registry") is None, reason="docker-registry is not installed"
)

CORPUS = """\
schema = 1
[corpus]
precision = ["fp32"]
targets = ["rtx"]
workspace_mb = 64
[store]
path = "store"
remote = "{reference}"
[targets.rtx]
runtime = "tensorrt_rtx"
sm = [86, 89]
[backbones.plain]
onnx = "plain.onnx"
expected_input_shape = [1, 3, 16, 16]
[backbones.half]
onnx = "half.onnx"
expected_input_shape = [1, 3, 16, 16]
precision = ["fp16"]
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for variable in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "ENGINERY_STORE"):
        monkeypatch.delenv(variable, raising=False)
    with serve(tmp_path / "registry") as running:
        login_file(tmp_path / "docker", running.host)
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
        yield running


def checkout(folder: Path, reference: str) -> Project:
    project = Project(folder)
    folder.mkdir()
    (folder / "dodo.py").write_text(
        "from enginery.doit import doit_config, engine_tasks\n"
        "DOIT_CONFIG = doit_config()\n"
        "def task_engines():\n    yield from engine_tasks('corpus.toml')\n"
    )
    (folder / "corpus.toml").write_text(CORPUS.format(reference=reference))
    onnx_models.write_small(folder / "plain.onnx", seed=1)
    onnx_models.write_small(folder / "half.onnx", seed=2)
    return project


@pytest.fixture
def pushed(server: Server, tmp_path: Path) -> Project:
    project = checkout(tmp_path / "first", server.reference)
    assert project.doit().built == ["plain", "half"]
    run = project.doit("push")
    assert run.returncode == 0, run.said
    assert run.stdout.count(": pushed\n") == 2
    return project


def test_a_colleague_builds_nothing(server: Server, pushed: Project, tmp_path: Path) -> None:
    again = pushed.doit("push")
    assert again.stdout.count(": there already\n") == 2
    other = checkout(tmp_path / "second", server.reference)
    run = other.doit()
    assert run.returncode == 0, run.said
    assert run.built == []
    assert run.stdout.count(f"restored from {server.reference}") == 2
    assert not (other.path / ".enginery" / "lowered").exists()
    assert {path.name: path.read_bytes() for path in other.engines.glob("*.engine")} == {
        path.name: path.read_bytes() for path in pushed.engines.glob("*.engine")
    }
    shutil.rmtree(other.engines)
    assert "restored from the local store" in other.doit().stdout


def test_pull_builds_nothing_and_tells_what_is_missing(
    server: Server, pushed: Project, tmp_path: Path
) -> None:
    other = checkout(tmp_path / "second", server.reference)
    onnx_models.write_small(other.path / "half.onnx", seed=3)
    run = other.doit("pull")
    assert run.returncode == 1
    assert f"restored from {server.reference}" in run.stdout
    assert "half: no store has it" in run.stderr
    assert [path.name for path in other.engines.glob("*.engine")] == [
        "plain_sm86-89_nojp_trt1.7.1.116_fp32.engine"
    ]


def test_a_tampered_blob_is_built_instead(server: Server, pushed: Project, tmp_path: Path) -> None:
    engine = pushed.engine("plain")
    blob = server.blob(hashlib.sha256(engine.read_bytes()).hexdigest())
    data = bytearray(blob.read_bytes())
    data[-100] ^= 1
    blob.write_bytes(data)
    other = checkout(tmp_path / "second", server.reference)
    run = other.doit("plain")
    assert run.returncode == 0, run.said
    assert run.built == ["plain"]
    assert run.stderr.count("is not taken from a store") == 1
    assert other.engine("plain").read_bytes() == engine.read_bytes()


def test_a_registry_that_is_down_costs_a_line_of_warning(server: Server, tmp_path: Path) -> None:
    project = checkout(tmp_path / "first", f"127.0.0.1:{free_port()}/team/engines")
    run = project.doit()
    assert run.returncode == 0, run.said
    assert run.built == ["plain", "half"]
    assert run.stderr.count("is not taken from a store") == 1
    run = project.doit("push")
    assert run.returncode == 1
    assert "Traceback" not in run.said


def test_clean_forces_a_build_although_the_registry_has_it(pushed: Project) -> None:
    pushed.doit("clean")
    assert pushed.doit().built == ["plain", "half"]
    shutil.rmtree(pushed.engines)
    shutil.rmtree(pushed.path / "store")
    assert pushed.doit().built == []


def test_a_wrong_password_is_said_and_is_not_shown(
    server: Server, pushed: Project, tmp_path: Path
) -> None:
    login_file(tmp_path / "docker", server.host, password="hunter2-of-another")  # noqa: S106
    other = checkout(tmp_path / "second", server.reference)
    run = other.doit("plain")
    assert run.built == ["plain"]
    assert "docker login" in run.stderr
    assert "hunter2" not in run.said


def test_read_only(server: Server, pushed: Project) -> None:
    pushed.edit(
        "corpus.toml",
        "[targets.rtx]",
        "",
    )
    pushed.edit("corpus.toml", 'path = "store"\n', 'path = "store"\nread_only = true\n')
    pushed.edit(
        "corpus.toml", 'runtime = "tensorrt_rtx"', '[targets.rtx]\nruntime = "tensorrt_rtx"'
    )
    run = pushed.doit("push")
    assert run.returncode == 1
    assert "read only" in run.stderr


def test_a_release_is_installed_from_the_registry(
    server: Server, pushed: Project, tmp_path: Path
) -> None:
    run = pushed.doit("release", "--push")
    assert run.returncode == 0, run.said
    document = (pushed.path / "release.json").read_bytes()
    tag = f"release-{hashlib.sha256(document).hexdigest()}"
    assert tag in run.stdout
    assert len(json.loads(document)["engines"]) == 2

    from enginery.cli import main

    device = tmp_path / "device"
    asked = ["install", tag, "--from", server.reference, "--target", "rtx", "--into", str(device)]
    assert main(asked) == 0
    assert sorted(path.name for path in (device / "current").glob("*.engine")) == sorted(
        path.name for path in pushed.engines.glob("*.engine")
    )
    assert main(["install", tag[:-1] + "0", *asked[2:]]) == 2
