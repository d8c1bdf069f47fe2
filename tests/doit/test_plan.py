"""`doit plan`, with the real doit in real folders; tests/farm has those with workers."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from conftest import Project
from test_remote_store import Server, checkout, pushed, server  # noqa: F401

ORIN = """\
[targets.orin]
runtime = "tensorrt"
sm = 87
jetpack = "6.2"
trt = "10.3.0.30"
elsewhere = "{}"
[backbones.plain]
targets = ["rtx", "orin"]
"""
FLEET = """\
schema = 1
[devices.van]
runtime = "tensorrt"
sm = 87
jetpack = "6.2"
trt = "10.3.0"
count = 4200
[devices.desk]
runtime = "tensorrt_rtx"
sm = 89
trt = "{rtx}"
names = ["desk-1", "desk-2"]
"""
ROW = re.compile(r"(\S+) +(fresh|stored|here|farm|nobody|left out) +(.*)")


def rows(project: Project, *arguments: str) -> dict[str, tuple[str, str]]:
    """Task to its course and the rest of its line."""
    run = project.doit("plan", *arguments)
    assert run.returncode == 0, run.said
    found = (ROW.fullmatch(text) for text in run.stdout.splitlines())
    return {match[1]: (match[2], match[3]) for match in found if match}


def document(project: Project, *arguments: str) -> dict[str, Any]:
    run = project.doit("plan", "--json", *arguments)
    assert run.returncode == 0, run.said
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(file): (file.stat().st_mtime_ns, file.stat().st_size)
        for file in sorted(folder.rglob("*"))
        if "__pycache__" not in file.parts
    }


def test_all_fresh(project: Project) -> None:
    before = everything(project.path)
    run = project.doit("plan")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.count(" fresh ") == 3
    assert run.stdout.splitlines()[-1] == "3 engines: 3 fresh"
    assert everything(project.path) == before


def test_what_is_built_here_with_the_time_of_before(project: Project) -> None:
    project.engine("plain").unlink()
    project.edit("corpus.toml", "[corpus]\n", "[corpus]\nrequire_check = false\n")
    onnx_models.write_small(project.path / "external.onnx", seed=9, weights="weights.bin")
    before = everything(project.path)
    found = rows(project)
    assert found["plain"][0] == found["external"][0] == "here"
    assert found["half"][0] == "fresh"
    # Its own build is still to be read in the provenance beside it.
    assert re.fullmatch(r"this host +\d+\.\d s +it is not there", found["plain"][1])
    assert re.fullmatch(r"this host +\d+\.\d s +.*the ONNX changed .*", found["external"][1])
    totals = document(project)["totals"]
    assert (totals["builds"], totals["at_once"], totals["assumed"]) == (2, 1, 0)
    assert totals["makespan_s"] == pytest.approx(totals["work_s"])
    assert totals["bound_s"] == pytest.approx(totals["makespan_s"])
    two = document(project, "-n", "2")["totals"]
    assert two["at_once"] == 2
    assert two["makespan_s"] == pytest.approx(two["longest_s"])
    assert everything(project.path) == before


def test_an_unknown_time_is_the_median_of_the_others_and_marked(project: Project) -> None:
    for name in ("plain", "external"):
        for file in project.engines.glob(f"{name}_*"):
            file.unlink()
    # The one that is left is of another precision.
    found = rows(project)
    assert re.fullmatch(r"this host +\d+\.\d s \* +it is not there", found["plain"][1])
    shown = document(project)
    assert shown["totals"]["assumed"] == 2
    times = [one["expected"] for one in shown["engines"] if one["course"] == "here"]
    assert all(one["assumed"] and one["seconds"] > 0 for (one,) in times)
    assert times[0] == times[1]
    assert "* not known of 2 of 2 builds: the median of the others" in project.doit("plan").stdout


def test_nothing_was_ever_built(project: Project) -> None:
    for file in project.engines.iterdir():
        file.unlink()
    run = project.doit("plan")
    assert "3 builds; no earlier build to go by, so no time is known" in run.stdout
    assert re.search(r"^plain +here +this host +\? +it is not there$", run.stdout, re.M)
    shown = document(project)
    assert shown["totals"]["makespan_s"] is None
    assert [one["worker"] for one in shown["engines"]] == ["this host"] * 3


def test_nobody_and_left_out(project: Project) -> None:
    project.edit("corpus.toml", "[backbones.plain]\n", ORIN.format("fail"))
    course, rest = rows(project)["plain:orin-fp32"]
    assert course == "nobody"
    assert "it needs a host with SM 8.7, JetPack 6.2" in rest
    assert rest.endswith("; the corpus has no farm")
    project.edit("corpus.toml", '"fail"', '"skip"')
    assert rows(project)["plain:orin-fp32"][0] == "left out"
    assert document(project)["courses"]["left_out"] == 1


def test_an_onnx_that_is_not_there(project: Project) -> None:
    (project.path / "plain.onnx").unlink()
    course, rest = rows(project)["plain"]
    assert course == "nobody"
    assert "plain.onnx is not there; put the model there" in rest
    # Where a task makes it, it is built.
    dodo = project.path / "dodo.py"
    dodo.write_text(
        dodo.read_text()
        + "def task_export():\n    return {'actions': ['cp half.onnx plain.onnx'], "
        "'targets': ['plain.onnx']}\n"
    )
    assert rows(project)["plain"][0] == "here"


def test_what_a_store_has(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    store = project.path / "store"
    monkeypatch.setenv("ENGINERY_STORE", str(store))
    for file in project.engines.iterdir():
        file.unlink()
    assert project.doit().returncode == 0
    project.engine("plain").unlink()
    before = everything(project.path)
    course, rest = rows(project)["plain"]
    assert (course, rest.split()[-1]) == ("stored", "it")
    assert f"the local store {store} has it" in rest
    assert everything(project.path) == before
    assert document(project)["totals"]["builds"] == 0
    monkeypatch.setenv("ENGINERY_STORE", "off")
    assert rows(project)["plain"][0] == "here"


def test_a_scheduler_that_is_down_costs_one_line(project: Project) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
    farm = f'[farm]\nscheduler = "{address}"\n'
    project.edit("corpus.toml", "[backbones.plain]\n", farm + ORIN.format("fail"))
    run = project.doit("plan", timeout=60)
    assert run.returncode == 0
    (warning,) = run.stderr.splitlines()
    assert warning.startswith(f"WARNING: the scheduler {address} cannot be asked: ")
    assert warning.endswith("The plan is made without its workers.")
    assert re.search(
        rf"^plain:orin-fp32 +nobody .*; the scheduler {address} is down$", run.stdout, re.M
    )
    shown = document(project)
    # Whether it was refused or gave no answer is Dask's to say.
    (note,) = shown["notes"]
    assert note.startswith(f"the scheduler {address} cannot be asked: ")
    # What is not to be built there asks nobody.
    assert project.doit("plan", "half").stderr == ""


def test_inventory(project: Project) -> None:
    project.edit("corpus.toml", "[backbones.plain]\n", ORIN.format("fail"))
    (rtx,) = re.findall(r"trt([0-9.]+)_", project.engine("half").name)
    (project.path / "fleet.toml").write_text(FLEET.format(rtx=rtx))
    van, desk = document(project, "--inventory", "fleet.toml")["devices"]
    assert (van["kind"], van["count"], van["engines"]) == (
        "van",
        4200,
        {"plain": ["plain:orin-fp32"]},
    )
    assert (van["without"], van["unbuilt"]) == (["external", "half"], ["plain"])
    assert (desk["count"], desk["names"]) == (2, ["desk-1", "desk-2"])
    assert desk["engines"] == {
        "plain": ["plain:rtx-fp32"], "external": ["external"], "half": ["half"],
    }  # fmt: skip
    assert (desk["without"], desk["unbuilt"], desk["courses"]["fresh"]) == ([], [], 3)
    text = project.doit("plan", "--inventory", "fleet.toml").stdout
    assert "van: 4200 devices, engines for 0 of 3 backbones: 1 nobody" in text
    assert "  no engine for: external, half" in text
    assert "  built by nobody: plain" in text
    assert "desk: 2 devices, engines for 3 of 3 backbones: 3 fresh" in text
    assert "  half: half" in text
    assert document(project, "half")["devices"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--inventory", "none.toml"], "none.toml: there is no such file; write one"),
        (["--inventory", "dodo.py"], "dodo.py: is no TOML: "),
        (["plane"], "there is no engine 'plane'; did you mean 'plain'?"),
        (["-n", "0"], "-n 0 builds nothing at a time; write 1 or more"),
    ],
)
def test_mistakes(project: Project, arguments: list[str], said: str) -> None:
    run = project.doit("plan", *arguments)
    assert run.returncode == 1
    assert run.stderr.startswith(f"ERROR: {said}")
    assert run.stderr.count("\n") == 1
    assert run.stdout == ""


def test_the_document(project: Project) -> None:
    project.engine("plain").unlink()
    found = document(project)
    assert found["version"] == 1
    assert set(found) == {
        "version", "engines", "workers", "courses", "totals", "devices", "notes",
    }  # fmt: skip
    (plain,) = (one for one in found["engines"] if one["task"] == "plain")
    assert set(plain) == {
        "corpus", "task", "backbone", "target", "precision", "runtime", "hardware", "condition",
        "course", "reason", "store", "tag", "worker", "start_s", "finish_s", "expected",
    }  # fmt: skip
    assert (plain["course"], plain["worker"], plain["start_s"]) == ("here", "this host", 0.0)
    assert plain["finish_s"] == plain["expected"][0]["seconds"]
    (here,) = found["workers"]
    assert (here["name"], here["address"], here["engines"]) == ("this host", None, 1)
    assert here["busy_s"] == plain["finish_s"]


def test_nothing_heavy_is_imported(project: Project) -> None:
    heavy = ("tensorrt", "tensorrt_rtx", "onnx", "numpy", "rich", "distributed")
    code = (
        "import sys\nfrom doit.doit_cmd import DoitMain\nDoitMain().run(['plan'])\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project.path, capture_output=True, text=True,
        check=True, env={**os.environ},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.skipif(
    shutil.which("docker-registry") is None, reason="docker-registry is not installed"
)
def test_the_remote_store_is_asked_only_where_that_is_wanted(
    server: Server,  # noqa: F811
    pushed: Project,  # noqa: F811
    tmp_path: Path,
) -> None:
    colleague = checkout(tmp_path / "colleague", server.reference)
    assert {course for course, _ in rows(colleague).values()} == {"here"}
    found = rows(colleague, "--remote")
    assert {course for course, _ in found.values()} == {"stored"}
    assert f"the remote store {server.reference} has it" in next(iter(found.values()))[1]
    assert not (colleague.path / "engines").exists()
    colleague.edit("corpus.toml", server.reference, "127.0.0.1:1/team/engines")
    assert colleague.doit("plan").stderr == ""
    run = colleague.doit("plan", "--remote")
    assert run.returncode == 0
    assert run.stdout.count(" here ") == 2
    assert re.fullmatch(r"WARNING: plain: .*127\.0\.0\.1:1.*\n", run.stderr), run.stderr
