"""Publishing and removing: there with its proof, or not believed; gone, and nothing else with it."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from artifacts import (
    DATA,
    IRREGULAR,
    NAME,
    OTHER_NAME,
    make_document,
    make_recipe,
    provenance_of,
    publish_artifact,
    replace_by,
    sidecar_of,
    snapshot,
)
from publish_for_ever import GENERATIONS

from enginery import EngineFilenameSchema, Sha256Sidecar, Sha256SidecarError
from enginery.atomic import leftovers, staged
from enginery.publish import owned_paths, publish, remove
from enginery.verdict import judge

KILLS = 40


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_what_is_published_is_believed(tmp_path: Path) -> None:
    path = publish_artifact(tmp_path)
    assert judge(path, make_recipe()).fresh
    assert path.read_bytes() == DATA
    assert names(tmp_path) == [NAME, NAME + ".provenance.json", NAME + ".sha256"]


def test_without_a_provenance(tmp_path: Path) -> None:
    path = tmp_path / NAME
    with staged(path) as built:
        built.write_bytes(DATA)
        publish(built, path, hashlib.sha256(DATA).hexdigest(), None)
        assert not built.exists()
    assert Sha256Sidecar.verify(path)
    assert names(tmp_path) == [NAME, NAME + ".sha256"]


def test_the_longest_name_can_be_published(tmp_path: Path) -> None:
    """The name's limit leaves room for suffixes and for a temporary file's affixes."""
    tag = {"sm": 86, "jetpack": None, "trt": "1", "precision": "fp16"}
    short = EngineFilenameSchema.build(model_name="m", **tag)  # type: ignore[arg-type]
    name = EngineFilenameSchema.build(model_name="m" * (201 - len(short)), **tag)  # type: ignore[arg-type]
    assert len(name) == 200
    assert judge(publish_artifact(tmp_path, name=name), make_recipe()).fresh


@pytest.mark.parametrize("kind", IRREGULAR)
def test_what_is_in_the_way_is_replaced(tmp_path: Path, kind: str) -> None:
    path = publish_artifact(tmp_path)
    for place in owned_paths(path):
        replace_by(kind, place)
    assert not judge(path, make_recipe()).fresh
    publish_artifact(tmp_path)
    assert judge(path, make_recipe()).fresh


def test_directories_in_the_way_are_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / NAME
    for place in owned_paths(path):
        place.mkdir()
        (place / "precious").write_text(place.name)
    publish_artifact(tmp_path)
    assert judge(path, make_recipe()).fresh
    kept = [(place / "precious").read_text() for place in tmp_path.glob("*.aside-*")]
    assert sorted(kept) == sorted(place.name for place in owned_paths(path))


def test_a_sidecar_that_cannot_be_written_leaves_nothing_believed(tmp_path: Path) -> None:
    """The sidecar is the commit point: what failed before it is no engine."""
    path = publish_artifact(tmp_path, data=b"old")
    folder = tmp_path / "gone"
    with staged(path) as built:
        built.write_bytes(DATA)
        document = make_document(path, DATA, make_recipe())
        with pytest.raises(OSError, match="gone"):
            publish(built, folder / NAME, hashlib.sha256(DATA).hexdigest(), document)
    assert path.read_bytes() == b"old"
    assert judge(path, make_recipe()).fresh


def kill_while_publishing(folder: Path, after: float) -> None:
    program = Path(__file__).with_name("publish_for_ever.py")
    with subprocess.Popen([sys.executable, program, folder], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(after)
        assert child.poll() is None, "it ended by itself"
        child.kill()


def verified(path: Path) -> bool:
    try:
        return Sha256Sidecar.verify(path)
    except Sha256SidecarError:
        return False


def test_kill_9_never_leaves_wrong_bytes_that_are_believed(tmp_path: Path) -> None:
    path = tmp_path / NAME
    chance = random.Random(20251124)  # noqa: S311 - no secret
    states = set()
    for _ in range(KILLS):
        kill_while_publishing(tmp_path, after=chance.uniform(0, 0.03))
        if verified(path):
            assert path.read_bytes() in [data for data, _ in GENERATIONS]
        believed = [data for data, recipe in GENERATIONS if judge(path, recipe).fresh]
        assert len(believed) <= 1
        for data in believed:
            assert path.read_bytes() == data
        states.add(bool(believed))
    assert True in states, "nothing was ever published"

    abandoned = leftovers(owned_paths(path))
    assert set(names(tmp_path)) <= {*(p.name for p in (*owned_paths(path), *abandoned))}
    publish_artifact(tmp_path)
    assert judge(path, make_recipe()).fresh
    assert set(remove(path)) == {*owned_paths(path), *abandoned}
    assert names(tmp_path) == []


def test_a_killed_publication_is_found(tmp_path: Path) -> None:
    path = publish_artifact(tmp_path)
    for place in owned_paths(path):
        with staged(place) as temporary:
            pass
        temporary.write_bytes(b"half")
    assert len(leftovers(owned_paths(path))) == 3
    assert judge(path, make_recipe()).fresh
    assert len(list(remove(path))) == 6
    assert names(tmp_path) == []


def test_the_sidecar_goes_first_and_the_artifact_last(tmp_path: Path) -> None:
    path = publish_artifact(tmp_path)
    going = remove(path)
    assert next(going) == sidecar_of(path)
    assert names(tmp_path) == [NAME, NAME + ".provenance.json"]
    assert next(going) == provenance_of(path)
    assert names(tmp_path) == [NAME]
    assert next(going) == path
    assert list(going) == []
    assert names(tmp_path) == []


def test_a_dry_run_says_the_same_and_removes_nothing(tmp_path: Path) -> None:
    path = publish_artifact(tmp_path)
    before = snapshot(tmp_path)
    said = list(remove(path, dry_run=True))
    assert snapshot(tmp_path) == before
    assert said == list(remove(path))
    assert list(remove(path)) == []


def test_foreign_files_stay(tmp_path: Path) -> None:
    path = publish_artifact(tmp_path)
    other = publish_artifact(tmp_path, name=OTHER_NAME)
    foreign = [
        "notes.txt",
        NAME + ".bak",
        NAME + ".sha256.bak",
        NAME + ".sha512",
        "x" + NAME,
        f".{NAME}.notes.tmp",
        f".{NAME}.12345678.tmp.orig",
    ]
    for name in foreign:
        (tmp_path / name).write_text("someone's")
    assert set(remove(path)) == set(owned_paths(path))
    assert names(tmp_path) == sorted([*foreign, *(p.name for p in owned_paths(other))])
    assert judge(other, make_recipe()).fresh


@pytest.mark.parametrize("place", [lambda path: path, sidecar_of, provenance_of])
def test_a_directory_in_the_place_of_a_file_stays(tmp_path: Path, place: object) -> None:
    path = publish_artifact(tmp_path)
    directory = place(path)  # type: ignore[operator]
    replace_by("directory", directory)
    (directory / "precious").write_text("someone's")
    assert directory not in list(remove(path))
    assert (directory / "precious").read_text() == "someone's"


def test_a_directory_called_like_a_temporary_file_stays(tmp_path: Path) -> None:
    path = publish_artifact(tmp_path)
    directory = tmp_path / f".{NAME}.12345678.tmp"
    directory.mkdir()
    assert set(remove(path)) == set(owned_paths(path))
    assert names(tmp_path) == [directory.name]


@pytest.mark.parametrize("kind", ["symlink", "dangling symlink", "FIFO"])
def test_links_go_and_what_they_lead_to_stays(tmp_path: Path, kind: str) -> None:
    path = publish_artifact(tmp_path)
    replace_by(kind, path)
    assert path in list(remove(path))
    assert names(tmp_path) == ["moved." + NAME]
    assert (tmp_path / ("moved." + NAME)).read_bytes() == DATA


def test_nothing_there_is_nothing_to_remove(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert list(remove(tmp_path / NAME)) == []
    assert list(remove(tmp_path / "missing" / NAME)) == []
    assert list(remove(tmp_path / "file" / NAME)) == []
