"""Nothing is built where nothing changed, whatever happened to times, places and databases."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project

HEAVY = ("tensorrt", "tensorrt_rtx", "polygraphy", "onnx", "numpy", "onnxruntime", "ml_dtypes")


def assert_nothing_built(project: Project) -> None:
    before = project.snapshot()
    run = project.doit()
    assert run.returncode == 0, run.said
    assert not [line for line in run.stdout.splitlines() if line.startswith(".")], run.stdout
    assert project.snapshot() == before


def test_second_run(project: Project) -> None:
    assert_nothing_built(project)


def test_second_run_imports_nothing_heavy(project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "doit"],
        cwd=project.path,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "enginery.verdict" in imported
    assert not imported & set(HEAVY)


def test_touched(project: Project) -> None:
    for file in [*project.path.glob("*.onnx"), *project.engines.iterdir()]:
        os.utime(file)
    assert_nothing_built(project)


def test_moved(project: Project) -> None:
    moved = project.path.with_name("elsewhere")
    project.path.rename(moved)
    assert_nothing_built(Project(moved))


def test_cloned_without_times_or_state(project: Project) -> None:
    clone = Project(project.path.with_name("clone"))
    shutil.copytree(
        project.path,
        clone.path,
        copy_function=shutil.copyfile,
        ignore=shutil.ignore_patterns(".enginery", ".doit.db*", "__pycache__"),
    )
    assert_nothing_built(clone)


@pytest.mark.parametrize(
    "content", [None, b"", b"garbage", b"\xff\x00" * 999, b"[]", b'{"plain": 5}', b"{" * 99999]
)
def test_database_deleted_emptied_or_garbage(project: Project, content: bytes | None) -> None:
    databases = list(project.path.glob(".doit.db*"))
    assert databases
    for database in databases:
        if content is None:
            database.unlink()
        else:
            database.write_bytes(content)
    assert_nothing_built(project)
    assert_nothing_built(project)


def test_a_garbage_database_is_kept_beside(project: Project) -> None:
    (project.path / ".doit.db").write_bytes(b"garbage")
    run = project.doit()
    assert "cannot be read" in run.stderr
    (aside,) = project.path.glob(".doit.db.unreadable-*")
    assert aside.read_bytes() == b"garbage"


def test_a_folder_in_the_database_s_place(project: Project) -> None:
    (project.path / ".doit.db").unlink()
    (project.path / ".doit.db").mkdir()
    assert_nothing_built(project)


def test_memory_of_inputs_deleted_or_garbage(project: Project) -> None:
    memory = project.path / ".enginery" / "inputs.json"
    for content in (b"garbage", b"", b'{"format": 99, "files": {}}'):
        memory.write_bytes(content)
        assert_nothing_built(project)
    shutil.rmtree(memory.parent)
    assert_nothing_built(project)


def test_engines_alone_are_enough(project: Project) -> None:
    shutil.rmtree(project.path / ".enginery")
    (project.path / ".doit.db").unlink()
    assert_nothing_built(project)
    assert not (project.path / ".enginery" / "lowered").exists()


def test_list_says_up_to_date(project: Project) -> None:
    run = project.doit("list", "--all", "--status")
    states = {line.split()[1]: line.split()[0] for line in run.stdout.splitlines()}
    assert states == {"plain": "U", "external": "U", "half": "U", "lower:half-fp16": "U"}


def test_list_says_what_a_task_makes_and_for_what(project: Project) -> None:
    run = project.doit("list")
    assert "plain      tensorrt_rtx engine in fp32 for SM 8.6, 8.9, TensorRT" in run.stdout


def test_a_users_own_tasks_work_as_in_doits_manual(project: Project) -> None:
    dodo = project.path / "dodo.py"
    dodo.write_text(
        dodo.read_text() + "def task_note():\n"
        "    return {'actions': ['cp plain.note copy.note', 'echo ran >> ran'],\n"
        "            'file_dep': ['plain.note'], 'targets': ['copy.note'], 'clean': True}\n"
    )
    (project.path / "plain.note").write_text("one")
    ran: Path = project.path / "ran"
    for expected, content in ((1, "one"), (1, "one"), (2, "two"), (2, "two")):
        (project.path / "plain.note").write_text(content)
        assert project.doit().returncode == 0
        assert len(ran.read_text().splitlines()) == expected
    project.doit("forget", "note")
    assert project.doit().returncode == 0
    assert len(ran.read_text().splitlines()) == 3
    assert project.doit("clean", "note").returncode == 0
    assert not (project.path / "copy.note").exists()
    assert project.engine("plain").exists()


def test_others_see_a_new_engine_as_a_new_result(project: Project) -> None:
    dodo = project.path / "dodo.py"
    dodo.write_text(
        dodo.read_text() + "from doit.tools import result_dep\n"
        "def task_deploy():\n"
        "    return {'actions': ['echo ran >> ran'], 'uptodate': [result_dep('plain')]}\n"
    )
    ran: Path = project.path / "ran"
    for expected in (1, 1):
        assert project.doit().returncode == 0
        assert len(ran.read_text().splitlines()) == expected
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    assert project.doit().returncode == 0
    assert len(ran.read_text().splitlines()) == 2
    (project.path / ".doit.db").unlink()
    assert project.doit("plain").built == []


def test_two_corpora_in_one_dodo(project: Project) -> None:
    second = (project.path / "corpus.toml").read_text().replace("[backbones.", "[backbones.other-")
    (project.path / "second.toml").write_text(second)
    dodo = project.path / "dodo.py"
    dodo.write_text(
        dodo.read_text() + "def task_more():\n    yield from engine_tasks('second.toml')\n"
    )
    run = project.doit()
    assert run.returncode == 0, run.said
    assert run.built == ["other-plain", "other-external", "other-half"]
    run = project.doit("check")
    assert run.returncode == 0, run.said
    assert ".  check:half" in run.stdout
    assert ".  check:other-half" in run.stdout
