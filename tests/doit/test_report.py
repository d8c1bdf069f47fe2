"""`doit report` as a user has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
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
    # The last run is told as a whole, whatever is named.
    (project.path / ".enginery/last-run.jsonl").unlink(missing_ok=True)
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
    assert (run.returncode, run.stderr) == (1, "ERROR: nowhere/r.html: there is no folder nowhere; make it, or name another file\n")  # fmt: skip


def test_only_a_page_is_replaced(project: Project) -> None:
    engine = project.engine("plain").relative_to(project.path)
    names = ["corpus.toml", "dodo.py", "plain.onnx", str(engine), f"{engine}.sha256"]
    before = project.snapshot()
    for name in [*names, "no_suffix"]:
        run = project.doit("report", "-o", name)
        assert run.returncode == 1
        assert run.stderr == f"ERROR: {name}: nothing is written under this suffix; use one of .htm, .html\n"  # fmt: skip
    assert project.snapshot() == before
    run = project.doit("report", "-o", "-")
    assert (run.returncode, run.stderr) == (1, "ERROR: -o: name a file; - is none\n")


def test_a_symlink_and_a_pipe_are_left_alone(project: Project) -> None:
    link, pipe = project.path / "link.html", project.path / "pipe.html"
    link.symlink_to("corpus.toml")
    run = project.doit("report", "-o", "link.html")
    assert (run.returncode, run.stderr) == (1, "ERROR: link.html is a symlink; name another file with -o\n")  # fmt: skip
    assert link.is_symlink()
    os.mkfifo(pipe)
    run = project.doit("report", "-o", "pipe.html")
    assert (run.returncode, run.stderr) == (1, "ERROR: pipe.html is no regular file; name another file with -o\n")  # fmt: skip
    assert pipe.is_fifo()


def test_a_name_that_no_file_can_have(project: Project) -> None:
    run = project.doit("report", "-o", f"{'a' * 240}.html")
    assert run.returncode == 1
    assert run.stderr.startswith(f"ERROR: {'a' * 240}.html cannot be written: ")
    assert ".tmp" not in run.stderr


def test_where_it_is_called_from_another_folder_the_path_is_absolute(project: Project) -> None:
    (project.path / "sub").mkdir()
    command = [sys.executable, "-m", "doit", "report", "-k"]
    done = subprocess.run(command, cwd=project.path / "sub", capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{project.path / 'report.html'}: 3 engines, ")


@pytest.mark.parametrize("folder", [".enginery", ".enginery/checks", "engines"])
def test_a_folder_that_may_not_be_entered_is_no_reason_to_fail(
    project: Project, folder: str
) -> None:
    locked = project.path / folder
    locked.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "doit", "report"]
    if os.geteuid() == 0:
        rights = "-dac_override,-dac_read_search"
        command = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}", *command]
    locked.chmod(0)
    try:
        done = subprocess.run(command, cwd=project.path, capture_output=True, text=True, check=False)  # fmt: skip
    finally:
        locked.chmod(0o755)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("report.html: 3 engines, ")


def test_it_says_its_line_to_whatever_there_is(project: Project) -> None:
    odd = "r\u00fc\nckgrat.html"
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "doit", "report", "-o", odd]
    done = subprocess.run(command, cwd=project.path, env=ascii_only, capture_output=True, text=True, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("r\\xfc\\nckgrat.html: 3 engines")
    assert done.stdout.count("\n") == 1
    for shell in ("{} >&-", "{} | true"):
        line = shell.format(f"{sys.executable} -m doit report")
        done = subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=project.path, capture_output=True, text=True, check=False)  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")


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


def test_a_package_of_the_extra_that_is_broken(project: Project) -> None:
    folder = project.path / "broken/vl_convert"
    folder.mkdir(parents=True)
    for kind in ("OSError", "ImportError"):
        (folder / "__init__.py").write_text(f"raise {kind}('libodd.so: no such file')\n")
        done = subprocess.run(
            [sys.executable, "-B", "-m", "doit", "report"],
            cwd=project.path,
            env={**os.environ, "PYTHONPATH": str(folder.parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr == "ERROR: the report needs packages that can be loaded (libodd.so: no such file); install it with: pip install 'enginery[report]'\n"  # fmt: skip
