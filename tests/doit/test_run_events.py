"""The events of a run: `--json`, and the record of the last run."""

from __future__ import annotations

import json
import os
import shutil
import signal
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from conftest import Project, wait_for

from enginery.report.last_run import last_run_path, read_last_run

PARALLEL = [[], ["-n", "2"], ["-n", "2", "-P", "thread"]]
SLOW = """\
[backbones.slow]
onnx = "slow.onnx"
input_name = "data_0"
expected_input_shape = [1, 3, 224, 224]
"""


def events(path: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    for event in found:
        assert set(event) == {"time", "kind", "kv"}
        assert event["time"].endswith("Z")
        assert datetime.fromisoformat(
            event["time"].replace("Z", "+00:00")
        ).utcoffset() == timedelta(0)
    return found


def of(found: list[dict[str, Any]], kind: str, **kv: Any) -> list[dict[str, Any]]:
    return [
        event["kv"]
        for event in found
        if event["kind"] == kind and kv.items() <= event["kv"].items()
    ]


@pytest.mark.parametrize("arguments", PARALLEL)
def test_events_agree_with_what_happened(project: Project, arguments: list[str]) -> None:
    onnx_models.write_single(project.path / "plain.onnx", "Det")
    half = 'onnx = "half.onnx"'
    project.edit("corpus.toml", half, f"{half}\nworkspace_mb = 65")
    shutil.rmtree(project.path / ".enginery")
    run = project.doit(*arguments, "--continue", "--json", "events.jsonl")
    assert run.returncode == 1
    found = events(project.path / "events.jsonl")
    assert found[0]["kind"] == "c10.run.start"
    assert found[0]["kv"]["arguments"] == [*arguments, "--continue", "--json", "events.jsonl"]
    assert found[-1]["kind"] == "c10.engine.compile.summary"

    (end,) = of(found, "c10.task.end", task="plain")
    assert end["outcome"] == "failed"
    assert "UNSUPPORTED_NODE" in end["error"]
    (error,) = of(found, "c10.engine.compile.error", task="plain")
    assert error["error_class"] == "EngineBuildError"
    (skip,) = of(found, "c10.task.skip", task="external")
    assert skip["outcome"] == "fresh"
    assert of(found, "c10.engine.cache.hit", task="external", model="external")
    assert of(found, "c10.task.end", task="lower:half-fp16", outcome="done")

    (miss,) = of(found, "c10.engine.cache.miss", task="half")
    assert miss["reason"] == "workspace_mb: 64 -> 65"
    assert "Building engine" in {
        kv["phase"] for kv in of(found, "c10.engine.build.progress", task="half")
    }
    (finish,) = of(found, "c10.engine.build.finish")
    engine = project.engine("half")
    assert finish["engine_path"] == str(engine.relative_to(project.path))
    assert (finish["task"], finish["size"]) == ("half", engine.stat().st_size)
    assert finish["sha256"] in Path(f"{engine}.sha256").read_text()
    assert of(found, "c10.task.end", task="half", outcome="built")
    kinds = [event["kind"] for event in found if event["kv"].get("task") == "half"]
    # With -n a task's process may be heard before doit tells that it started.
    assert "c10.task.start" in kinds if arguments else kinds[0] == "c10.task.start"
    assert kinds[-1] == "c10.task.end"

    (summary,) = of(found, "c10.engine.compile.summary")
    assert summary["unfinished"] == []
    assert summary["interrupted"] is False
    assert summary["saved_s"] > 0
    names = ("built", "reused", "restored", "failed", "skipped")
    assert [summary[f"engines_{name}"] for name in names] == [1, 1, 0, 1, 0]
    assert summary["total"] == 3
    assert round(summary["cache_hit_ratio"], 2) == 0.33
    assert (
        "3 engines: 1 reused, 0 restored, 1 built, 1 failed, 0 skipped (hit ratio 0.33)"
        in run.stdout
    )

    recorded = project.path / ".enginery" / "last-run.jsonl"
    assert recorded.read_text() == (project.path / "events.jsonl").read_text()
    last = read_last_run(last_run_path(project.path / "corpus.toml"))
    assert {one.task: one.outcome for one in last.tasks} == {
        "plain": "failed", "half": "built", "lower:half-fp16": "done",
    }  # fmt: skip
    assert last.summary is not None
    assert last.summary.engines_built == 1


def test_a_run_with_nothing_to_do_is_no_last_run(project: Project) -> None:
    record = project.path / ".enginery" / "last-run.jsonl"
    before = record.read_bytes()
    run = project.doit("--json", "events.jsonl")
    assert run.returncode == 0
    found = events(project.path / "events.jsonl")
    assert len(of(found, "c10.engine.cache.hit")) == 3
    assert record.read_bytes() == before


def test_a_record_that_cannot_be_written_is_no_error(project: Project) -> None:
    onnx_models.write_single(project.path / "plain.onnx", "Det")
    shutil.rmtree(project.path / ".enginery")
    (project.path / ".enginery").write_text("in the way")
    run = project.doit("plain")
    assert run.returncode == 1
    assert run.stdout.splitlines()[-1].startswith(
        "1 engine: 0 reused, 0 restored, 0 built, 1 failed"
    )
    assert "Traceback" not in run.said
    assert (project.path / ".enginery").read_text() == "in the way"


@pytest.mark.parametrize("arguments", PARALLEL)
def test_ctrl_c_is_recorded(project: Project, arguments: list[str]) -> None:
    onnx_models.write_slow(project.path / "slow.onnx")
    with (project.path / "corpus.toml").open("a") as corpus:
        corpus.write(SLOW)
    running = project.start(*arguments, "--json", "events.jsonl")
    wait_for(lambda: "Computing profile costs" in (project.path / "events.jsonl").read_text()
             if (project.path / "events.jsonl").exists() else False)  # fmt: skip
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait(30) != 0
    (summary,) = of(events(project.path / "events.jsonl"), "c10.engine.compile.summary")
    assert summary["interrupted"] is True
    assert summary["unfinished"] == ["slow"]
    said = (project.path / "log").read_text()
    assert "\nnot finished: slow\n" in said
    last = read_last_run(last_run_path(project.path / "corpus.toml"))
    assert last.summary is not None
    assert last.summary.interrupted


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--json", "no/such/folder"], "--json: no/such/folder cannot be written: No such file"),
        (["--json", "engines"], "--json: engines cannot be written: Is a directory"),
        (["--json", "-"], "--json: name a file"),
        (["--json", "x", "-r", "console"], "--json: the reporter 'console' writes no events"),
    ],
)
def test_a_file_that_cannot_be(project: Project, arguments: list[str], words: str) -> None:
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    run = project.doit(*arguments)
    assert run.returncode == 3
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"ERROR: {words}")
    assert not (project.path / "x").exists()


def test_a_disk_that_fills_up(project: Project) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    run = project.doit("--json", "/dev/full")
    assert run.returncode == 0, run.said
    assert run.stderr.splitlines() == [
        "/dev/full: no more events are written: No space left on device"
    ]


def test_info_events_are_not_a_users_to_see(project: Project) -> None:
    """A dodo.py that sets up logging gets warnings and no more, as before."""
    dodo = project.path / "dodo.py"
    dodo.write_text(
        "import logging\nlogging.basicConfig(format='LOG %(message)s')\n" + dodo.read_text()
    )
    project.edit("corpus.toml", 'onnx = "plain.onnx"', 'onnx = "plain.onnx"\nworkspace_mb = 65')
    run = project.doit("--json", "events.jsonl", "plain")
    assert run.returncode == 0, run.said
    assert [line for line in run.stderr.splitlines() if line.startswith("LOG")] == [
        f"LOG building {project.engine('plain').name}: workspace_mb: 64 -> 65"
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("plain", "plain is a task; name a file first, as in: --json run.jsonl plain"),
        ("plain.onnx", "plain.onnx belongs to the task "),
        ("corpus.toml", "corpus.toml holds something else than events"),
        ("dodo.py", "dodo.py holds something else than events"),
    ],
)
def test_a_file_that_is_something_else(project: Project, name: str, words: str) -> None:
    path = project.path / name
    before = path.read_bytes() if path.exists() else None
    run = project.doit("--json", name)
    assert (run.returncode, run.stdout) == (3, "")
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"ERROR: --json: {words}")
    assert (path.read_bytes() if path.exists() else None) == before


def test_a_file_that_a_task_is_going_to_make(project: Project) -> None:
    engine = project.engine("plain").relative_to(project.path)
    shutil.rmtree(project.engines)
    for name in ("engines", f"./{engine}"):
        run = project.doit("--json", name)
        assert run.returncode == 3
        assert f"ERROR: --json: {name} belongs to the task " in run.stderr
        assert not project.engines.exists()


def test_events_of_an_earlier_run_are_replaced(project: Project) -> None:
    path = project.path / "events.jsonl"
    path.touch()
    assert project.doit("--json", path.name).returncode == 0
    path.write_text(path.read_text() * 2)
    assert project.doit("--json", path.name).returncode == 0
    assert len(of(events(path), "c10.run.start")) == 1


def test_events_to_standard_error(project: Project) -> None:
    run = project.doit("--json", "/dev/stderr")
    assert run.returncode == 0
    assert json.loads(run.stderr.splitlines()[0])["kind"] == "c10.run.start"


def test_arguments_that_are_not_utf_8(project: Project) -> None:
    run = project.doit("--json", "events.jsonl", "-o", "x\udcff.txt")
    assert run.returncode == 0, run.said
    assert (project.path / "x\udcff.txt").exists()
    (start,) = of(events(project.path / "events.jsonl"), "c10.run.start")
    assert start["arguments"][-1] == "x\\udcff.txt"


@pytest.mark.parametrize("names", [["plain", "plain", "half"], ["pl*", "plain", "half"]])
def test_a_name_given_twice_hides_no_other(project: Project, names: list[str]) -> None:
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    run = project.doit("--json", "events.jsonl", *names)
    assert run.returncode == 0, run.said
    assert run.built == ["plain", "half"]


def test_values_of_a_tasks_own_are_kept(project: Project) -> None:
    with (project.path / "dodo.py").open("a") as dodo:
        dodo.write(
            "\ndef task_say():\n"
            "    return {'actions': ['echo said %(what)s'], 'pos_arg': 'what', 'verbosity': 2}\n"
        )
    run = project.doit("say", "plain", "plain")
    assert run.returncode == 0, run.said
    assert "said plain plain" in run.stdout


@pytest.mark.parametrize("reporter", ["", "reporter=Mine, "])
def test_the_file_is_set_in_the_dodo(project: Project, reporter: str) -> None:
    """The reporter may be a class made of enginery's."""
    mine = (
        "from enginery.doit.reporter import EngineReporter\n"
        "class Mine(EngineReporter):\n    pass\n"
        f'DOIT_CONFIG = doit_config({reporter}json_file="set.jsonl")'
    )
    project.edit("dodo.py", "DOIT_CONFIG = doit_config()", mine)
    run = project.doit()
    assert run.returncode == 0, run.said
    assert events(project.path / "set.jsonl")[-1]["kind"] == "c10.engine.compile.summary"
    assert project.doit("--json", "given.jsonl").returncode == 0
    assert (project.path / "given.jsonl").exists()
    assert project.doit("--json=", "-r", "console").returncode == 0
