"""doit with a farm: what this host cannot build is built there, and published here."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import odd
import pytest
from conftest import Project, wait_for
from farms import Authority, running_farm
from odd import Site

from enginery.trust import verified


@pytest.fixture
def fleet(tmp_path: Path, new_project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with running_farm(tmp_path / "farm") as farm:
        yield odd.site(farm, new_project, monkeypatch)


def events(said: str) -> list[str]:
    return re.findall(r"^(\S+\.engine): .*, built in [0-9.]+ s by (\S+)$", said, re.MULTILINE)


def test_one_doit_builds_here_and_there(fleet: Site) -> None:
    fleet.models("far1", "far2")
    fleet.models("near", target="near")
    fleet.worker("one")
    run = fleet.doit()
    assert run.returncode == 0, run.said
    assert "Traceback" not in run.said
    assert run.built == ["near", "far1", "far2"]
    assert events(run.stdout) == [
        (fleet.engine("far1").name, "one"), (fleet.engine("far2").name, "one"),
    ]  # fmt: skip
    assert "distributed" not in run.said
    assert fleet.is_clean()
    statement = verified(fleet.engine("far1"))
    assert statement.recipe.toolchain["runtime"] == odd.NAME
    assert statement.host == "one"
    assert re.search(r"built .* in .* by one,", fleet.doit("why", "far1").stdout)

    fleet.farm.stop_scheduler()
    again = fleet.doit()
    assert (again.returncode, again.built) == (0, []), again.said
    assert "built on the farm" in fleet.doit("info", "far1").stdout


def test_what_doit_does_one_by_one_the_farm_does_at_once(fleet: Site) -> None:
    fleet.models("slow", "slower", slow=True)
    one, two = fleet.worker("one"), fleet.worker("two")
    process = fleet.project.start()
    wait_for(lambda: "started" in one.log and "started" in two.log, 60)
    assert fleet.built() == []
    assert process.wait(200) == 0, (fleet.project.path / "log").read_text()
    assert fleet.built() == ["slow", "slower"]


def test_only_what_is_asked_for_is_built(fleet: Site) -> None:
    fleet.models("far1", "far2", "far3")
    fleet.worker("one")
    assert fleet.doit("far2").built == ["far2"]
    fleet.project.edit(
        "dodo.py", "def task_engines",
        "def task_deploy():\n"
        f"    return {{'actions': [], 'file_dep': ['engines/{fleet.engine('far3').name}']}}\n\n\n"
        "def task_engines",
    )  # fmt: skip
    assert fleet.doit("deploy").built == ["far3"]
    assert fleet.built() == ["far2", "far3"]


@pytest.mark.parametrize("arguments", [["-n", "3"], ["-n", "3", "-P", "thread"]])
def test_several_processes_or_threads(fleet: Site, arguments: list[str]) -> None:
    names = ["far1", "far2", "far3", "far4"]
    fleet.models(*names)
    fleet.worker("one")
    fleet.worker("two")
    run = fleet.doit(*arguments)
    assert run.returncode == 0, run.said
    assert sorted(run.built) == names
    assert fleet.built() == names
    assert "Traceback" not in run.said


def test_two_who_ask_get_one_build(fleet: Site) -> None:
    fleet.models("slow", slow=True)
    fleet.worker("one")
    fleet.worker("two")
    first = fleet.project.start()
    wait_for(lambda: b"building" in (fleet.project.path / "log").read_bytes())
    other = Project(fleet.project.path.with_name("other"))
    subprocess.run(["cp", "-r", fleet.project.path, other.path], check=True)
    run = other.doit()
    assert run.returncode == 0, run.said
    assert first.wait(100) == 0
    assert fleet.built() == ["slow"]
    assert (
        fleet.engine("slow").read_bytes()
        == (other.engines / fleet.engine("slow").name).read_bytes()
    )


def test_a_lowered_model_with_data_beside_it(fleet: Site) -> None:
    import onnx_models

    fleet.models("far")
    fleet.project.edit("corpus.toml", '"fp32"', '"fp16"')
    onnx_models.write_small(fleet.project.path / "far.onnx", seed=7, weights="weights.bin")
    fleet.worker("one")
    run = fleet.doit()
    assert run.returncode == 0, run.said
    assert run.built == ["far"]
    assert not (fleet.project.path / ".enginery" / "lowered").exists()


def test_a_required_check_runs_here(fleet: Site) -> None:
    fleet.models("far")
    fleet.project.edit("corpus.toml", '"fp32"]', '"fp16"]\nrequire_check = true')
    fleet.worker("one")
    run = fleet.doit()
    assert run.returncode == 0, run.said
    assert run.built == ["far"]
    assert fleet.doit().built == []


def test_an_input_that_changes_under_way(fleet: Site) -> None:
    import onnx_models

    fleet.models("far")
    process = fleet.project.start()
    log = fleet.project.path / "log"
    wait_for(lambda: "no worker is connected" in log.read_text())
    onnx_models.write_small(fleet.project.path / "far.onnx", seed=99)
    fleet.worker("one")
    assert process.wait(60) == 1
    assert "far.onnx changed while the engine was built; nothing was published" in log.read_text()
    assert list(fleet.project.engines.glob("*.engine")) == []
    assert fleet.doit().built == ["far"]


def test_a_model_that_cannot_be_built(fleet: Site) -> None:
    fleet.models("far", "good")
    fleet.project.edit(
        "corpus.toml", "[1, 3, 16, 16]\n[backbones.good]", "[1, 5, 16, 16]\n[backbones.good]"
    )
    fleet.worker("one")
    run = fleet.doit("--continue")
    assert run.returncode != 0
    assert run.built == ["good"]
    assert "backbones.far.expected_input_shape: " in run.said
    assert "Traceback" not in run.said


SCRIPT = """
import json, logging, sys
from pathlib import Path
from enginery import *
from enginery.farm_spec import FarmSpec
from enginery.runtimes import load_runtime

class Kinds(logging.Handler):
    def emit(self, record):
        kinds.append([record.kind, record.kv])

kinds, phases = [], []
logger = logging.getLogger("tests")
logger.setLevel(logging.INFO)
logger.addHandler(Kinds())
compiler = EngineCompiler(
    inference_runtime=load_runtime("odd_rtx"), logger=logger, farm=FarmSpec(sys.argv[1]),
    progress=lambda progress: phases.append(progress.phase),
)
request = EngineCompileRequest(
    backbones=(BackboneSpec("far", Path("far.onnx"), (1, 3, 16, 16)),), calibration_path=None,
    cache_root=Path(sys.argv[2]), precision=PrecisionMode.FP32,
    host=HostCapabilities(86, None, sys.argv[3]), workspace_mb=64,
)
(result,) = compiler.compile_engines_for_corpus(request)
print(json.dumps({"outcome": result.outcome, "extras": result.entry.extras, "kinds": kinds,
                  "phases": phases, "seconds": result.compile_duration_s}))
"""


def test_what_a_program_is_told(fleet: Site) -> None:
    fleet.models("far")
    fleet.worker("one")

    def ask(folder: str) -> dict[str, Any]:
        command = [sys.executable, "-c", SCRIPT, fleet.farm.scheduler, folder, odd.RTX_VERSION]
        done = subprocess.run(
            command, cwd=fleet.project.path, capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stderr == ""
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    said = ask("engines")
    assert said["outcome"] == "built"
    assert said["extras"]["built_by"] == "one"
    assert said["seconds"] > 0
    assert "Building engine" in said["phases"]
    kinds = dict(said["kinds"])
    assert list(kinds) == [
        "c10.engine.cache.miss", "c10.engine.farm.built", "c10.engine.compile.summary",
    ]  # fmt: skip
    assert kinds["c10.engine.farm.built"]["host"] == "one"
    again = ask("others")
    assert (again["outcome"], again["seconds"]) == ("reused", None)
    assert again["extras"]["restored_from"] == "the farm's worker one"


def test_ctrl_c_is_quiet(fleet: Site) -> None:
    import os
    import signal

    fleet.models("slow", slow=True)
    one = fleet.worker("one")
    process = fleet.project.start()
    one.said("started")
    wait_for(lambda: "building" in (fleet.project.path / "log").read_text())
    # Python can lose a signal that comes while two threads import.
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(20) != 0
    said = (fleet.project.path / "log").read_text()
    assert "Traceback" not in said
    assert "interrupted" in said


def test_a_farm_that_is_off(fleet: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.models("far")
    monkeypatch.setenv("ENGINERY_FARM", "off")
    run = fleet.doit()
    assert run.returncode == 1
    assert "cannot be built here" in run.stdout
    fleet.project.edit(
        "corpus.toml", "sm = 86\n[targets.near]", 'sm = 86\nelsewhere = "skip"\n[targets.near]'
    )
    assert fleet.doit().returncode == 0
    # One that nobody can build is left out, and no error.
    monkeypatch.setenv("ENGINERY_FARM", "tcp://127.0.0.1:1")
    run = fleet.doit("--json", "events.jsonl")
    assert run.returncode == 0, run.said
    assert "error" not in (fleet.project.path / "events.jsonl").read_text()
    monkeypatch.delenv("ENGINERY_FARM")
    assert "do: doit far" in fleet.doit("why", "far").stdout
    assert " elsewhere " in fleet.doit("corpus").stdout
    fleet.worker("one")
    run = fleet.doit()
    assert run.built == ["far"], run.said


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\xff" * 64], ids=["SSH", "noise"])
def test_what_answers_is_no_scheduler(
    fleet: Site, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.models("far")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with suppress(OSError):
                while True:
                    with server.accept()[0] as caller:
                        caller.sendall(said)
                        caller.recv(1)

        threading.Thread(target=answer, daemon=True).start()
        monkeypatch.setenv("ENGINERY_FARM", f"tcp://127.0.0.1:{server.getsockname()[1]}")
        run = fleet.doit()
        plan = fleet.doit("plan")
        server.shutdown(socket.SHUT_RDWR)
    assert run.returncode == 1
    assert "cannot be reached" in run.stdout
    assert plan.returncode == 0
    assert "cannot be asked" in plan.stderr
    assert "Traceback" not in run.said + plan.said


def test_a_calibration_cache_of_another_model(fleet: Site) -> None:
    """Its provenance lies here, and says so before a worker is asked."""
    fleet.models("far", "other")
    fleet.project.edit("corpus.toml", '"fp32"', '"int8"')
    for name in ("far", "other"):
        calibrate = f'onnx = "{name}.onnx"\ncalibrate = {{ data = "data/*.npy" }}'
        fleet.project.edit("corpus.toml", f'onnx = "{name}.onnx"', calibrate)
    (fleet.project.path / "data").mkdir()
    samples = np.random.RandomState(0).randn(4, 1, 3, 16, 16).astype(np.float32)
    for index, sample in enumerate(samples):
        np.save(fleet.project.path / "data" / f"{index}.npy", sample)
    fleet.worker("one")
    run = fleet.doit("far")
    assert run.returncode == 0, run.said
    assert "has no provenance" not in run.said
    cache = ".enginery/calibration/far.calib"
    given = f'onnx = "other.onnx"\ncalibration = "{cache}"'
    fleet.project.edit("corpus.toml", calibrate, given)
    run = fleet.doit("other")
    assert run.returncode == 1
    assert "was made for another model" in run.said
    assert fleet.built() == ["far"]


@pytest.fixture
def tls_fleet(
    tmp_path: Path, new_project: Project, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    with running_farm(tmp_path / "farm", Authority(tmp_path / "tls")) as farm:
        yield odd.site(farm, new_project, monkeypatch)


def test_with_tls(tls_fleet: Site) -> None:
    fleet, authority = tls_fleet, tls_fleet.farm.authority
    assert authority is not None
    pem = authority.issue("submitter")
    fleet.project.edit(
        "corpus.toml", "wait_for",
        f'ca = "{authority.ca}"\ncert = "{pem.cert}"\nkey = "{pem.key}"\nwait_for',
    )  # fmt: skip
    fleet.models("far")
    fleet.worker("one")
    run = fleet.doit()
    assert run.built == ["far"], run.said
    fleet.engine("far").unlink()
    # Whoever has no certificate of the farm's authority is nobody.
    stranger = Authority(fleet.farm.folder / "strangers")
    other = stranger.issue("stranger")
    fleet.project.edit("corpus.toml", str(pem.cert), str(other.cert))
    fleet.project.edit("corpus.toml", str(pem.key), str(other.key))
    run = fleet.doit()
    assert run.returncode == 1
    assert "cannot be reached" in run.stdout
    assert "Traceback" not in run.said
    fleet.project.edit("corpus.toml", str(other.key), str(fleet.farm.folder / "gone.key"))
    run = fleet.doit()
    assert "gone.key, is not there" in run.stdout


class TestTrust:
    @pytest.fixture
    def keys(self, fleet: Site) -> tuple[str, str]:
        folder = fleet.farm.folder
        for name in ("team", "other"):
            for command in (
                ["genpkey", "-algorithm", "ed25519", "-out", f"{name}.pem"],
                ["pkey", "-in", f"{name}.pem", "-pubout", "-out", f"{name}.pub.pem"],
            ):
                subprocess.run(["openssl", *command], cwd=folder, check=True)
            (folder / f"{name}.pem").chmod(0o600)
        return str(folder / "team.pem"), str(folder / "other.pem")

    def require(self, fleet: Site, key: str) -> None:
        public = key.replace(".pem", ".pub.pem")
        fleet.project.edit(
            "corpus.toml", "[farm]", f'[trust]\nkeys = ["{public}"]\nrequire = "all"\n[farm]'
        )

    def test_the_workers_signature_counts(self, fleet: Site, keys: tuple[str, str]) -> None:
        team, other = keys
        fleet.models("far")
        self.require(fleet, team)
        fleet.worker("unsigned")
        fleet.worker("signed_by_another", options=["--sign-with", other])
        run = fleet.doit()
        assert run.returncode == 1
        assert "is not taken from unsigned" in run.stderr
        assert "is not taken from signed_by_another" in run.stderr
        assert "not used again in this run" in run.stderr
        assert "no other worker can build it" in run.stdout
        assert not fleet.engine("far").exists()
        fleet.worker("signed", options=["--sign-with", team])
        run = fleet.doit()
        assert run.returncode == 0, run.said
        assert fleet.doit().built == []
        envelope = json.loads(
            (fleet.project.engines / f"{fleet.engine('far').name}.dsse.json").read_text()
        )
        assert envelope["signatures"]

    def test_what_could_not_be_believed_is_not_asked_for(
        self, fleet: Site, keys: tuple[str, str]
    ) -> None:
        fleet.models("far")
        self.require(fleet, keys[0])
        (fleet.farm.folder / "team.pub.pem").write_text("no key")
        one = fleet.worker("one")
        run = fleet.doit()
        assert run.returncode != 0
        assert "team.pub.pem" in run.said
        assert "started" not in one.log
