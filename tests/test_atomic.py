"""Atomic writes: the old bytes or the new ones, never a mixture, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from artifacts import replace_by

from enginery.atomic import commit, leftovers, staged, sync, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in (b"old", b"", b"new" * 1000):
        write_atomically(path, data)
        assert path.read_bytes() == data
    assert names(tmp_path) == ["file"]


def test_a_reader_sees_one_or_the_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = (b"a" * 300_000, b"b" * 200_000)
    write_atomically(path, contents[0])
    seen: set[bytes] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(60):
            write_atomically(path, contents[number % 2])
    finally:
        done.set()
        reader.join()
    assert seen
    assert seen <= set(contents)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "file", b"data")
    assert names(tmp_path) == []


LIMITED = """
import resource, sys
from pathlib import Path
from enginery.atomic import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(Path(sys.argv[1]), b"new" * 1000)
except OSError as error:
    sys.exit(f"refused: {error.strerror}")
"""


def test_a_write_that_fails_midway_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, path], capture_output=True, text=True, check=False
    )
    assert "refused: File too large" in run.stderr
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_what_was_staged_is_gone_when_its_writer_raises(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    temporaries = []
    with pytest.raises(ZeroDivisionError), staged(path) as temporary:  # noqa: PT012
        temporary.write_bytes(b"half")
        temporaries.append(temporary)
        raise ZeroDivisionError
    assert temporaries[0].parent == tmp_path
    assert names(tmp_path) == ["file"]
    assert path.read_bytes() == b"old"


def test_two_writers_of_one_file_do_not_share_a_temporary(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with staged(path) as one, staged(path) as two:
        assert one != two
        one.write_bytes(b"one")
        two.write_bytes(b"two")
        commit(one, path)
        assert path.read_bytes() == b"one"
        commit(two, path)
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["file"]


def test_a_directory_in_the_way_is_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.mkdir()
    (path / "precious").write_text("someone's")
    write_atomically(path, b"data")
    assert path.read_bytes() == b"data"
    (aside,) = tmp_path.glob("file.aside-*")
    assert (aside / "precious").read_text() == "someone's"
    assert len(names(tmp_path)) == 2


@pytest.mark.parametrize("kind", ["FIFO", "symlink", "dangling symlink"])
def test_anything_else_in_the_way_is_replaced_and_not_followed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    replace_by(kind, path)
    write_atomically(path, b"new")
    assert path.is_file()
    assert not path.is_symlink()
    assert path.read_bytes() == b"new"
    assert (tmp_path / "moved.file").read_bytes() == b"old"
    assert not (tmp_path / "nowhere").exists()


def test_leftovers_are_the_temporaries_of_these_files(tmp_path: Path) -> None:
    path, other = tmp_path / "a.engine", tmp_path / "b.engine"
    left = []
    for _ in range(2):
        with staged(path) as temporary:
            pass
        temporary.write_bytes(b"of a killed process")
        left.append(temporary)
    with staged(other) as of_another:
        pass
    of_another.write_bytes(b"not ours")
    (tmp_path / "a.engine").write_bytes(b"itself")
    assert leftovers([path]) == sorted(left)
    assert leftovers([path, other]) == sorted([*left, of_another])


@pytest.mark.parametrize(
    "name",
    [
        "a.engine.12345678.tmp",
        ".a.engine.tmp",
        ".a.engine.12345678.tmp.txt",
        ".a.engine.notes.tmp",
        ".a.engine.v2.12345678.tmp",
        ".a.engine.lock",
        ".ba.engine.12345678.tmp",
    ],
)
def test_what_no_write_of_ours_leaves_is_no_leftover(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("someone's")
    assert leftovers([tmp_path / "a.engine"]) == []


def test_a_directory_is_no_leftover(tmp_path: Path) -> None:
    (tmp_path / ".a.engine.12345678.tmp").mkdir()
    assert leftovers([tmp_path / "a.engine"]) == []


def test_no_folder_has_no_leftovers(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert leftovers([tmp_path / "missing" / "a.engine"]) == []
    assert leftovers([tmp_path / "file" / "a.engine"]) == []
    assert leftovers([]) == []


def test_files_and_folders_can_be_synced(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    sync(tmp_path / "file")
    sync(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "missing")
