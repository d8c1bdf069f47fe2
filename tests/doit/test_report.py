"""`doit report` as a user has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from conftest import Project


def without(project: Project, package: str) -> None:
    """Have a package of the extra missing in this project, as where it was never installed."""
    (project.path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{package!r}] = None\n")


def test_the_page_is_written_whole_and_replaced(project: Project) -> None:
    run = project.doit("report")
    assert run.returncode == 0, run.said
    assert run.stdout.startswith("report.html: 3 engines, ")
    page = project.path / "report.html"
    before = page.stat().st_ino
    assert page.read_bytes().startswith(b"<!DOCTYPE html>")
    assert project.doit("report").returncode == 0
    assert page.stat().st_ino != before
    assert not list(project.path.glob(".report.html*"))


def test_it_changes_nothing_else(project: Project) -> None:
    def files() -> dict[Path, int]:
        return {
            path: path.stat().st_mtime_ns
            for path in project.path.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    before = files()
    assert project.doit("report", "-o", "r.html").returncode == 0
    after = files()
    assert after.pop(project.path / "r.html")
    assert after == before


def test_names_limit_it(project: Project) -> None:
    run = project.doit("report", "-o", "one.html", "plain")
    assert run.returncode == 0, run.said
    assert "1 engine," in run.stdout
    text = (project.path / "one.html").read_text()
    assert "plain" in text
    assert "external" not in text
    wrong = project.doit("report", "plane")
    assert wrong.returncode == 1
    assert "there is no engine 'plane'" in wrong.stderr


def test_two_corpora_share_a_page(project: Project) -> None:
    (project.path / "other").mkdir()
    text = (project.path / "corpus.toml").read_text()
    text = text.replace('onnx = "', 'onnx = "../').replace("[backbones.", "[backbones.other_")
    (project.path / "other/corpus.toml").write_text(text)
    project.edit("dodo.py", 'engine_tasks("corpus.toml")', 'engine_tasks("corpus.toml")\n    yield from engine_tasks("other/corpus.toml")')  # fmt: skip
    run = project.doit("report")
    assert run.returncode == 0, run.said
    assert "6 engines" in run.stdout
    assert "other/corpus.toml</h2>" in (project.path / "report.html").read_text()


def test_where_it_cannot_be_written(project: Project) -> None:
    (project.path / "folder.html").mkdir()
    run = project.doit("report", "-o", "folder.html")
    assert (run.returncode, run.stderr) == (1, "ERROR: folder.html is a folder; name a file with -o\n")  # fmt: skip
    run = project.doit("report", "-o", "nowhere/r.html")
    assert run.returncode == 1
    assert "nowhere" in run.stderr
    assert "Traceback" not in run.said


def test_without_the_extra_it_says_what_to_install(project: Project) -> None:
    without(project, "vl_convert")
    done = subprocess.run(
        [sys.executable, "-m", "doit", "report"],
        cwd=project.path,
        env={**os.environ, "PYTHONPATH": str(project.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "ERROR: the report needs vl_convert; install it with: pip install 'enginery[report]'\n"  # fmt: skip
