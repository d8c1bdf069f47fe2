"""doit clean takes an engine with its proofs, and never a file that is not ours."""

from __future__ import annotations

import os

from conftest import Project


def names(project: Project) -> set[str]:
    return {file.name for file in project.engines.iterdir()}


def test_of_one_task(project: Project) -> None:
    before = names(project)
    run = project.doit("clean", "plain")
    assert run.returncode == 0
    gone = before - names(project)
    assert len(gone) == 3
    assert all(name.startswith("plain_") for name in gone)
    assert all(f"engines/{name}" in run.stdout for name in gone)
    assert project.doit().built == ["plain"]


def test_only_says_so(project: Project) -> None:
    before = project.snapshot()
    run = project.doit("clean", "-n")
    assert run.returncode == 0
    assert all(f"engines/{name}" in run.stdout for name in before)
    assert project.snapshot() == before


def test_of_everything(project: Project) -> None:
    foreign = [
        project.engines / "notes.txt",
        project.engines / "plain_sm75_nojp_trt1.0_fp32.engine",
        project.engines / "sub",
    ]
    for file in foreign[:2]:
        file.write_text("mine")
    foreign[2].mkdir()
    assert project.doit("clean").returncode == 0
    assert sorted(project.engines.iterdir()) == sorted(foreign)
    assert not list((project.path / ".enginery" / "lowered").iterdir())
    assert project.doit().built == ["plain", "external", "half"]


def test_the_sidecar_goes_first(project: Project) -> None:
    lines = project.doit("clean", "plain").stdout.splitlines()
    assert [line.rpartition(".")[2] for line in lines if line.startswith("engines/")] == [
        "sha256",
        "json",
        "engine",
    ]


def test_a_directory_or_link_in_the_place_of_an_engine(project: Project) -> None:
    plain, external = project.engine("plain"), project.engine("external")
    kept = project.path / "kept"
    plain.rename(kept)
    plain.symlink_to(kept)
    external.unlink()
    external.mkdir()
    (external / "mine").write_text("mine")
    assert project.doit("clean").returncode == 0
    assert kept.exists()
    assert not os.path.lexists(plain)
    assert (external / "mine").read_text() == "mine"


def test_twice_is_no_error(project: Project) -> None:
    for _ in range(2):
        run = project.doit("clean")
        assert (run.returncode, run.stderr) == (0, "")
