"""The live view, in a real terminal: what is seen while it runs, and what is left of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import numpy as np
import onnx_models
import pytest
from conftest import Project
from terminal import Terminal, terminal

SLOW = """\
[backbones.slow]
onnx = "slow.onnx"
input_name = "data_0"
expected_input_shape = [1, 3, 224, 224]
"""
PARALLEL = [[], ["-n", "2"], ["-n", "2", "-P", "thread"]]

# Tasks of a user that print while others do.
CHATTY = """

import sys
import time


def talk(name, count):
    for number in range(count):
        sys.stdout.write(f"{name} ")
        sys.stdout.write(f"{number} ")
        print("x" * 120, "end")
        time.sleep(0.02)
    print(name, "y" * 10_000, "long")


def task_talk():
    for name in ("alpha", "beta"):
        yield {"name": name, "actions": [(talk, [name, 60])], "verbosity": 2}
    yield {
        "name": "shell",
        "actions": ["for i in $(seq 60); do echo shell $i end; echo err $i end >&2; done"],
        "verbosity": 2,
    }
"""


@pytest.fixture
def slow_project(project: Project) -> Project:
    """Everything is fresh but `slow`, which takes seconds."""
    onnx_models.write_slow(project.path / "slow.onnx")
    with (project.path / "corpus.toml").open("a") as corpus:
        corpus.write(SLOW)
    return project


def add(project: Project, tasks: str) -> None:
    with (project.path / "dodo.py").open("a") as dodo:
        dodo.write(tasks)


def assert_given_back(shown: Terminal) -> None:
    """The cursor is to be seen, at the begin of an empty row below all output."""
    assert not shown.screen.cursor.hidden
    assert shown.screen.cursor.x == 0
    rows = [line.rstrip() for line in shown.screen.display]
    assert not any(rows[shown.screen.cursor.y :])
    assert rows[shown.screen.cursor.y - 1]
    assert b"\x1b[?25l" not in shown.raw


def assert_no_rows_left(shown: Terminal) -> None:
    """No row of the view is among what stays."""
    assert not [row for row in shown.transcript if re.search(r"\d running|waiting;", row)]


@pytest.mark.parametrize("arguments", PARALLEL)
def test_phases_of_a_build(slow_project: Project, arguments: list[str]) -> None:
    with terminal(slow_project, *arguments) as shown:
        shown.wait_for(lambda text: "Computing profile costs, 0 of 5 steps" in text)
        assert re.search(r"^slow +\d.*no earlier build to go by  Computing", shown.text, re.M)
        assert "4 engines: 3 reused, 1 running; " in shown.text
        assert shown.finish() == 0
    assert (
        len(
            {
                re.search(r"^slow .*", text, re.M)[0]
                for text in shown.seen
                if "\nslow" in f"\n{text}" and "_sm" not in text
            }
        )
        > 5
    )  # type: ignore[index]
    built, summary = shown.transcript
    assert re.fullmatch(r"slow_sm86-89_\S+: \d+\.\d MB, \w{12}, built in [\d.]+ s", built)
    assert summary.startswith("4 engines: 3 reused, 0 restored, 1 built, 0 failed, 0 skipped (hit ")
    assert_given_back(shown)


def test_an_estimate_by_earlier_builds(slow_project: Project) -> None:
    assert slow_project.doit("slow").built == ["slow"]
    slow_project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    with terminal(slow_project, "slow") as shown:
        shown.wait_for(
            lambda text: re.search(r"^slow +[\d.]+ s of about [\d.]+ s  \w+", text, re.M)
        )
        shown.process.send_signal(signal.SIGINT)
        shown.finish()


@pytest.mark.parametrize("arguments", PARALLEL)
@pytest.mark.parametrize("size", [(100, 30), (40, 30), (100, 5), (10, 3)])
def test_no_line_tears(project: Project, arguments: list[str], size: tuple[int, int]) -> None:
    add(project, CHATTY)
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    with terminal(project, *arguments, size=size) as shown:
        assert shown.finish() == 0
    assert_no_rows_left(shown)
    # The terminal breaks a line that is longer than it is wide.
    said = re.sub(r"\s", "", "".join(shown.transcript))
    for number in range(60):
        for name in ("alpha", "beta"):
            assert said.count(f"{name}{number}{'x' * 120}end") == 1
        assert len(re.findall(rf"(?<!\d)shell{number + 1}end", said)) == 1
        assert len(re.findall(rf"err{number + 1}end", said)) == 1
    assert said.count("builtin") == 3
    for name in ("alpha", "beta"):
        assert said.count(f"{name}{'y' * 10_000}long") == 1
    assert_given_back(shown)


@pytest.mark.parametrize("arguments", PARALLEL)
def test_ctrl_c(slow_project: Project, arguments: list[str]) -> None:
    slow_project.edit(
        "corpus.toml", 'onnx = "plain.onnx"', 'onnx = "plain.onnx"\nworkspace_mb = 65'
    )
    with terminal(slow_project, *arguments) as shown:
        shown.wait_for(
            lambda text: re.search(r"^slow .*Computing", text, re.M) and "built in" in text
        )
        os.killpg(shown.process.pid, signal.SIGINT)
        assert shown.finish(30) != 0
    *_, summary, names, last = shown.transcript
    assert "2 reused, 0 restored, 1 built" in summary
    assert names == "finished: plain; not finished: slow"
    assert last == "interrupted; engines that were finished stay, run again to go on"
    assert_no_rows_left(shown)
    assert_given_back(shown)


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("arguments", PARALLEL)
def test_killed(slow_project: Project, arguments: list[str], by: signal.Signals) -> None:
    with terminal(slow_project, *arguments) as shown:
        shown.wait_for(lambda text: re.search(r"^slow +\d", text, re.M))
        shown.process.send_signal(by)
        assert shown.finish(30) == -by
    assert_given_back(shown)


CRASH = """

def bad_title(task):
    raise RuntimeError("no title today")


def task_talk():
    return {"actions": ["echo hello"], "verbosity": 2}


def task_zz():
    return {"actions": ["true"], "title": bad_title, "task_dep": ["talk"]}
"""


@pytest.mark.parametrize("arguments", PARALLEL[:2])
def test_a_crash(project: Project, arguments: list[str]) -> None:
    add(project, CRASH)
    with terminal(project, *arguments) as shown:
        assert shown.finish() == 3
    assert "RuntimeError: no title today" in shown.text
    assert "hello" in shown.transcript
    assert_no_rows_left(shown)
    assert_given_back(shown)


def test_nothing_to_do(project: Project) -> None:
    with terminal(project) as shown:
        assert shown.finish() == 0
    (summary,) = shown.transcript
    assert summary.startswith("3 engines: 3 reused, 0 restored, 0 built, 0 failed, 0 skipped (hit ")
    assert b"\x1b" not in shown.raw


def test_nothing_to_do_imports_no_view(project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "doit"],
        cwd=project.path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "enginery.doit.tally" in imported
    assert not imported & {"rich", "rich.console", "statistics", "enginery.doit.live"}


def test_no_color(project: Project) -> None:
    add(
        project,
        "\ndef task_red():\n    return {'actions': [\"printf '\\\\033[31mred\\\\033[0m\\\\n'\"], 'verbosity': 2}\n",
    )
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    colour = re.compile(rb"\x1b\[[0-9;]*\b(3[0-79]|4[0-79]|9[0-7]|[34]8;[0-9;]*)m")
    with terminal(project) as shown:
        assert shown.finish() == 0
    assert colour.search(shown.raw)
    project.edit("corpus.toml", "workspace_mb = 65", "workspace_mb = 66")
    with terminal(project, NO_COLOR="1") as shown:
        assert shown.finish() == 0
    assert "red" in shown.transcript
    assert not colour.search(shown.raw)


def test_a_dumb_terminal(project: Project) -> None:
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    with terminal(project, TERM="dumb") as shown:
        assert shown.finish() == 0
    assert b"\x1b" not in shown.raw
    assert ".  plain" in shown.transcript


def test_a_failing_build_says_why(project: Project) -> None:
    onnx_models.write_single(project.path / "plain.onnx", "Det")
    with terminal(project, "--continue", "-n", "2") as shown:
        assert shown.finish() == 1
    assert "TaskFailed - taskid:plain" in shown.transcript
    assert "operator Det (node 'only'): UNSUPPORTED_NODE" in " ".join(shown.transcript)
    assert "3 engines: 2 reused, 0 restored, 0 built, 1 failed, 0 skipped" in shown.text
    assert_given_back(shown)


ASKING = """

def ask():
    print("you said", input("go on? "))


def task_ask():
    return {"actions": [ask], "verbosity": 2, "task_dep": ["plain"]}


def task_own():
    return {"actions": ["tty; printf 'own? '; read x; echo got $x"], "io": {"capture": False},
            "task_dep": ["ask"]}
"""


def test_a_calibration_says_how_far_it_is_in_its_row(project: Project) -> None:
    (project.path / "data").mkdir()
    np.save(project.path / "data" / "one.npy", np.ones((1, 3, 16, 16), np.float32))
    project.edit(
        "corpus.toml",
        'precision = ["fp16"]',
        'precision = ["int8"]\ncalibrate = { data = "data/*.npy" }',
    )
    with terminal(project, "calibrate") as shown:
        assert shown.finish() == 0
    assert any(
        re.search(r"^calibrate:half +[\d.]+ s +calibrating", text, re.M) for text in shown.seen
    )
    (done,) = shown.transcript
    assert done.startswith("calibrate:half: done in ")


def test_tasks_that_talk_with_the_user(project: Project) -> None:
    add(project, ASKING)
    with terminal(project) as shown:
        shown.wait_for(lambda text: "go on?" in text)
        shown.type("yes\n")
        shown.wait_for(lambda text: "you said yes" in text and "own?" in text)
        shown.type("mine\n")
        assert shown.finish() == 0
    assert "got mine" in shown.transcript
    assert_given_back(shown)


OWN = "DOIT_CONFIG = {'reporter': 'enginery'}\n"
FAST = """

def count():
    for number in range(3000):
        print(f"line {number}.")
    print("no end", end="")


def task_count():
    return {"actions": [count], "verbosity": 2}
"""


def test_many_lines_at_once_are_shown_together_and_in_order(new_project: Project) -> None:
    (new_project.path / "dodo.py").write_text(OWN + FAST)
    with terminal(new_project) as shown:
        assert shown.finish() == 0
    lines = [line for line in shown.transcript if line.startswith(("line ", "no end"))]
    assert lines == [*(f"line {number}." for number in range(3000)), "no end"]
    assert shown.raw.count(b" running;") < 100
    assert_given_back(shown)


TWO = """

def task_two():
    for name, seconds in (("short", 0.5), ("long", 2)):
        yield {"name": name, "actions": [f"echo {name} begins; sleep {seconds}; echo {name} ends"],
               "io": {"capture": False}}


def task_later():
    return {"actions": ["sleep 1"], "task_dep": ["two"]}
"""


@pytest.mark.parametrize("arguments", PARALLEL[1:])
def test_two_tasks_that_have_the_terminal(new_project: Project, arguments: list[str]) -> None:
    (new_project.path / "dodo.py").write_text(OWN + TWO)
    with terminal(new_project, *arguments) as shown:
        assert shown.finish() == 0
    both = [text for text in shown.seen if "short ends" in text and "long ends" not in text]
    assert both
    assert not any(" running;" in text for text in both)
    assert any(" running;" in text for text in shown.seen if "long ends" in text)
    assert_no_rows_left(shown)


WIDE = """

import time


def ask():
    print("z" * 100, end="")
    time.sleep(1)


def task_ask():
    return {"actions": [ask], "verbosity": 2}
"""


def test_the_terminal_is_as_wide_as_it_says(new_project: Project) -> None:
    (new_project.path / "dodo.py").write_text(OWN + WIDE)
    with terminal(new_project, size=(60, 30), COLUMNS="200", LINES="90") as shown:
        assert shown.finish() == 0
    assert shown.transcript[:2] == ["z" * 60, "z" * 40]
    assert sum("z" in row for row in shown.transcript) == 2
    assert_given_back(shown)


CONTROLS = r"""

def tell():
    print("\x1b[31mred\x1b[0m \x1b[5Aup \x1b]0;title\x07\x0e\x00\x9b2Jclear\x1bc \x1b[" + "1" * 5000 + "m")
    print("one\x85two\u2028three\ttab \x1b[")


def task_tell():
    return {"actions": [tell], "verbosity": 2}
"""


def test_control_characters_do_not_reach_the_terminal(new_project: Project) -> None:
    (new_project.path / "dodo.py").write_text(OWN + CONTROLS)
    with terminal(new_project) as shown:
        assert shown.finish() == 0
    assert b"\x1b[31mred" in shown.raw
    assert shown.transcript[:4] == ["red up clear", "one", "two", "three   tab"]
    assert not re.search(rb"\x1b\[5A|\x1b\]|[\x00\x07\x0e]|\xc2[\x80-\x9f]|\x1bc", shown.raw)
    assert_given_back(shown)
