"""Not on a terminal: doit's own lines, and what the run came to; and doit's own reporters."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from conftest import Project
from terminal import terminal

SUMMARY = re.compile(
    r"(?P<total>\d+) engines?: (?P<reused>\d+) reused, (?P<restored>\d+) restored, "
    r"(?P<built>\d+) built, (?P<failed>\d+) failed, (?P<skipped>\d+) skipped"
    r"(?: \(hit ratio (?P<ratio>\d\.\d\d)\))? in [\d.]+ s(?:; [\d.]+ s of building saved)?"
)
PARALLEL = [[], ["-n", "2"], ["-n", "2", "-P", "thread"]]


def counts(line: str) -> dict[str, str]:
    found = SUMMARY.fullmatch(line)
    assert found, line
    return {name: text for name, text in found.groupdict().items() if text not in ("0", None)}


@pytest.mark.parametrize("arguments", PARALLEL)
def test_lines_in_a_pipe(project: Project, arguments: list[str]) -> None:
    project.edit("corpus.toml", 'onnx = "plain.onnx"', 'onnx = "plain.onnx"\nworkspace_mb = 65')
    run = project.doit(*arguments)
    assert run.returncode == 0, run.said
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", run.said)
    lines = run.stdout.splitlines()
    assert {"-- external", "-- half", ".  plain"} < set(lines)
    assert run.built == ["plain"]
    assert counts(lines[-1]) == {"total": "3", "reused": "2", "built": "1", "ratio": "0.67"}
    assert "building plain_sm86-89" in run.stderr


def test_nothing_to_do_saves_what_was_built(project: Project) -> None:
    run = project.doit()
    *fresh, summary = run.stdout.splitlines()
    assert sorted(fresh) == ["-- external", "-- half", "-- lower:half-fp16", "-- plain"]
    assert counts(summary) == {"total": "3", "reused": "3", "ratio": "1.00"}
    assert "of building saved" in summary


def test_only_what_was_asked_for_counts(project: Project) -> None:
    assert counts(project.doit("plain").stdout.splitlines()[-1])["total"] == "1"


@pytest.mark.parametrize("arguments", PARALLEL)
def test_a_failure_and_what_was_not_begun(project: Project, arguments: list[str]) -> None:
    onnx_models.write_single(project.path / "plain.onnx", "Det")
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    run = project.doit(*arguments, "--continue")
    assert run.returncode == 1
    assert counts(run.stdout.splitlines()[-1]) == {
        "total": "3", "built": "2", "failed": "1", "ratio": "0.00",
    }  # fmt: skip
    project.edit("corpus.toml", "workspace_mb = 65", "workspace_mb = 66")
    run = project.doit()
    *_, summary, rest = run.stdout.splitlines()
    assert counts(summary) == {"total": "3", "failed": "1", "ratio": "0.00"}
    assert rest == "not begun: external, half"


def test_left_out_engines_are_skipped(project: Project) -> None:
    project.edit(
        "corpus.toml",
        "[backbones.plain]",
        '[targets.jetson]\nruntime = "tensorrt"\nsm = 87\njetpack = "6.2"\ntrt = "10.3.0.30"\n'
        'elsewhere = "skip"\n[backbones.plain]\ntargets = ["rtx", "jetson"]',
    )
    run = project.doit()
    assert run.returncode == 0, run.said
    assert counts(run.stdout.splitlines()[-1]) == {
        "total": "4", "reused": "3", "skipped": "1", "ratio": "1.00",
    }  # fmt: skip


@pytest.mark.parametrize("arguments", PARALLEL)
def test_restored_engines(
    project: Project, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINERY_STORE", str(project.path / "store"))
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    assert counts(project.doit().stdout.splitlines()[-1])["built"] == "3"
    shutil.rmtree(project.engines)
    # `half` comes from the store while its model would be lowered.
    run = project.doit(*arguments)
    assert run.returncode == 0, run.said
    summary = run.stdout.splitlines()[-1]
    assert counts(summary) == {"total": "3", "restored": "3", "ratio": "1.00"}
    assert "of building saved" in summary


def test_a_project_without_engines(new_project: Project) -> None:
    dodo = new_project.path / "dodo.py"
    own = "def task_own():\n    return {'actions': ['echo hello'], 'verbosity': 2}\n"
    dodo.write_text("DOIT_CONFIG = {'reporter': 'enginery'}\n" + own)
    for arguments in PARALLEL:
        run = new_project.doit(*arguments)
        assert (run.returncode, run.stderr) == (0, "")
        # Of two processes, either may be the first to write.
        assert sorted(run.stdout.splitlines()) == [".  own", "hello"]
    dodo.write_text(own)
    run = new_project.doit()
    assert (run.returncode, run.stdout, run.stderr) == (0, ".  own\nhello\n", "")
    assert not (new_project.path / ".enginery").exists()


def test_doits_own_reporters(project: Project) -> None:
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    run = project.doit("-r", "console", "-n", "2")
    assert run.returncode == 0, run.said
    assert sorted(run.built) == ["external", "half", "plain"]
    assert "engines:" not in run.stdout
    assert project.doit("-r", "zero").said == ""
    assert project.doit("-r", "executed-only").said == ""
    assert project.doit("-r", "json").stdout.startswith('{"tasks": [')


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_worker_processes_that_are_not_forked(project: Project, method: str) -> None:
    with (project.path / "dodo.py").open("a") as dodo:
        dodo.write(
            f"\nimport multiprocessing\nmultiprocessing.set_start_method({method!r}, force=True)\n"
        )
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    project.edit("corpus.toml", 'precision = ["fp16"]', "")
    with terminal(project, "-n", "2") as shown:
        assert shown.finish() == 0
    assert b"\x1b" not in shown.raw
    assert ".  plain" in shown.transcript
    assert counts(shown.transcript[-1])["built"] == "3"


def test_output_in_a_file(project: Project) -> None:
    run = project.doit("-o", "said.txt")
    assert run.said == ""
    assert counts((project.path / "said.txt").read_text().splitlines()[-1])["reused"] == "3"


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["plainn"], "plain"),
        (["run", "-n", "2", "externl"], "external"),
        (["prnue"], "prune"),
        (["HALF"], "half"),
    ],
)
def test_a_misspelt_task(project: Project, arguments: list[str], meant: str) -> None:
    run = project.doit(*arguments)
    assert run.returncode == 3
    assert run.stdout == ""
    first, second, *_ = run.stderr.splitlines()
    assert first.endswith(f"Did you mean {meant!r}?")
    assert "list" in run.stderr
    assert second.startswith("Type ")


def test_a_task_that_is_like_no_other(project: Project) -> None:
    run = project.doit("xyzzy")
    assert run.returncode == 3
    assert "mean" not in run.stderr
    assert run.stderr.startswith('ERROR: Invalid parameter: "xyzzy". Must be a command, task')


def last_summary(project: Project) -> dict[str, Any]:
    lines = (project.path / ".enginery" / "last-run.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert last["kind"] == "c10.engine.compile.summary"
    found: dict[str, Any] = last["kv"]
    return found


@pytest.mark.parametrize("arguments", PARALLEL)
def test_engines_of_a_delayed_task_creator(project: Project, arguments: list[str]) -> None:
    project.edit(
        "dodo.py", "def task_engines", "@create_after('first', creates=NAMES)\ndef task_engines"
    )
    dodo = project.path / "dodo.py"
    dodo.write_text(
        "from doit import create_after\nNAMES = ['plain', 'external', 'half']\n"
        + dodo.read_text()
        + "\ndef task_first():\n    return {'actions': ['true']}\n"
    )
    shutil.rmtree(project.path / ".enginery")
    project.edit("corpus.toml", 'onnx = "plain.onnx"', 'onnx = "plain.onnx"\nworkspace_mb = 65')
    run = project.doit(*arguments)
    assert run.returncode == 0, run.said
    summary = run.stdout.splitlines()[-1]
    assert counts(summary) == {"total": "3", "reused": "2", "built": "1", "ratio": "0.67"}
    assert last_summary(project)["engines_built"] == 1


def test_standard_output_that_is_closed(project: Project) -> None:
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    shutil.rmtree(project.path / ".enginery")
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -m doit >&-', sys.executable],
        cwd=project.path, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert last_summary(project)["engines_built"] == 3


def test_the_record_is_kept_where_the_lines_cannot_be_written(project: Project) -> None:
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    shutil.rmtree(project.path / ".enginery")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-u", "-m", "doit", "--json", "events.jsonl"],
            cwd=project.path, stdout=full, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert done.returncode != 0
    assert last_summary(project)["total"] == 3
    assert "compile.summary" in (project.path / "events.jsonl").read_text().splitlines()[-1]


def test_ctrl_c_while_the_run_ends(new_project: Project) -> None:
    (new_project.path / "dodo.py").write_text(
        "import atexit, os, signal\n"
        "DOIT_CONFIG = {'reporter': 'enginery'}\n"
        "def press():\n    os.kill(os.getpid(), signal.SIGINT)\n"
        "atexit.register(press)\n"
        "def task_own():\n    return {'actions': [press]}\n"
    )
    run = new_project.doit()
    assert run.returncode == -signal.SIGINT
    assert "atexit" not in run.stderr


def test_left_out_engines_are_no_errors(project: Project) -> None:
    project.edit(
        "corpus.toml",
        "[backbones.plain]",
        '[targets.jetson]\nruntime = "tensorrt"\nsm = 87\njetpack = "6.2"\ntrt = "10.3.0.30"\n'
        'elsewhere = "skip"\n[backbones.plain]\ntargets = ["jetson"]',
    )
    run = project.doit("-a", "--json", "events.jsonl", "plain")
    assert run.returncode == 0, run.said
    assert counts(run.stdout.splitlines()[-1]) == {"total": "1", "skipped": "1"}
    assert "ElsewhereError" not in (project.path / "events.jsonl").read_text()
