"""Whatever lies in the place of engine, sidecar or provenance: built again, with the reason."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Project, flip_bit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enginery import EngineIntegrityError, read_verified

Damage = Callable[[Path], object]


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def garbage(path: Path) -> None:
    path.write_text("not what belongs here\n")


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 4)


def megabyte(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"0" * (1 << 20))


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("of someone's")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def symlink(path: Path) -> None:
    kept = path.with_name(path.name + ".kept")
    path.rename(kept)
    path.symlink_to(kept)


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def upper_case(path: Path) -> None:
    path.write_text(path.read_text()[:64].upper() + path.read_text()[64:])


def short_hex(path: Path) -> None:
    path.write_text(path.read_text()[1:])


def other_file(path: Path) -> None:
    path.write_text(path.read_text()[:66] + "other.engine\n")


def unknown_field(path: Path) -> None:
    path.write_text(path.read_text().replace("{", '{"extra": 1,', 1))


def other_recipe(path: Path) -> None:
    path.write_text(path.read_text().replace('"workspace_mb": 64', '"workspace_mb": 65'))


def next_version(path: Path) -> None:
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))


def flip_bit_of_digest(path: Path) -> None:
    """Not of a time, which anybody may write and only a signature protects."""
    flip_bit(path, offset=path.read_bytes().index(b'"sha256": "') + 12)


ANY = [remove, empty, truncate, garbage, binary, directory, fifo, symlink, dangling]
CASES = [
    *(("", damage) for damage in [*ANY, flip_bit]),
    *(
        (".sha256", damage)
        for damage in [*ANY, flip_bit, megabyte, upper_case, short_hex, other_file]
    ),
    *(
        (".provenance.json", damage)
        for damage in [
            *ANY,
            flip_bit_of_digest,
            megabyte,
            unknown_field,
            other_recipe,
            next_version,
        ]
    ),
]


@pytest.mark.parametrize(("suffix", "damage"), CASES)
def test_damage_is_built_again(project: Project, suffix: str, damage: Damage) -> None:
    engine = project.engine("plain")
    good = engine.read_bytes()
    damage(engine.with_name(engine.name + suffix))

    status = project.doit("list", "--status", "plain")
    assert status.stdout.startswith("R plain"), status.said
    info = project.doit("info", "plain", timeout=30)
    assert info.returncode == 1
    assert engine.name in info.stdout or "it is not there" in info.stdout
    assert not info.stderr

    run = project.doit(timeout=60)
    assert run.returncode == 0, run.said
    assert run.built == ["plain"]
    assert f"building {engine.name}: " in run.stderr
    assert engine.read_bytes() == good
    assert read_verified(engine) == good
    assert project.doit().built == []


def test_swapped_engines(project: Project) -> None:
    first, second = project.engine("plain"), project.engine("external")
    aside = first.with_name("aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    assert project.doit().built == ["plain", "external"]


def test_swapped_with_all_their_proofs(project: Project) -> None:
    first, second = project.engine("plain"), project.engine("external")
    for suffix in ("", ".sha256", ".provenance.json"):
        shutil.copy(f"{second}{suffix}", f"{first}{suffix}")
    run = project.doit()
    assert run.built == ["plain"]
    assert "is for another file" in run.stderr


def test_a_directory_in_the_way_is_kept(project: Project) -> None:
    engine = project.engine("plain")
    directory(engine)
    assert project.doit().built == ["plain"]
    (aside,) = project.engines.glob("*.aside-*")
    assert (aside / "something").read_text() == "of someone's"


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_seen(
    built_project: Project, tmp_path: Path, position: float, bit: int
) -> None:
    engine = built_project.engine("plain")
    copy = tmp_path / engine.name
    data = bytearray(engine.read_bytes())
    data[int(position * len(data))] ^= 1 << bit
    copy.write_bytes(data)
    for suffix in (".sha256", ".provenance.json"):
        shutil.copy(f"{engine}{suffix}", f"{copy}{suffix}")
    with pytest.raises(EngineIntegrityError, match="is damaged"):
        read_verified(copy)
