"""Hashing ahead: the digests that one would get anyway, only sooner."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from artifacts import IRREGULAR, replace_by, within
from hypothesis import given, settings
from hypothesis import strategies as st

from enginery.errors import IrregularFileError
from enginery.hash_ahead import HashAhead

# Above and below the size from which threads are used.
LARGE, SMALL = 4 << 20, 1000
FILES = 6


def write_files(folder: Path) -> list[Path]:
    """Files of different bytes, large and small ones in turn."""
    paths = []
    for number in range(FILES):
        path = folder / f"{number}.engine"
        path.write_bytes(b"%d" % number)
        os.truncate(path, LARGE if number % 2 else SMALL)
        paths.append(path)
    return paths


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, str]:
    """Path to digest; only read."""
    return {path: sha256(path) for path in write_files(tmp_path_factory.mktemp("engines"))}


@given(
    expected=st.lists(st.integers(0, FILES - 1), max_size=8),
    asked=st.lists(st.integers(0, FILES - 1), min_size=1, max_size=8),
    threads=st.sampled_from([None, 1, 2, 4]),
)
@settings(deadline=None, max_examples=25)
def test_any_question_gets_its_answer(
    files: dict[Path, str], expected: list[int], asked: list[int], threads: int | None
) -> None:
    """In order or not, expected or not, once or again."""
    paths = list(files)
    ahead = HashAhead(threads)
    ahead.expect(paths[number] for number in expected)
    with within(30):
        for number in asked:
            assert ahead.digest(paths[number]) == files[paths[number]]


def test_expectations_may_come_in_parts(files: dict[Path, str]) -> None:
    ahead = HashAhead(threads=2)
    for path in files:
        ahead.expect([path])
    assert [ahead.digest(path) for path in files] == list(files.values())


def test_a_second_question_hashes_again(tmp_path: Path) -> None:
    path = write_files(tmp_path)[1]
    ahead = HashAhead(threads=2)
    ahead.expect([path])
    before = ahead.digest(path)
    with path.open("r+b") as stream:
        stream.write(b"changed")
    assert ahead.digest(path) == sha256(path) != before


def test_files_that_vanish(tmp_path: Path) -> None:
    paths = write_files(tmp_path)
    ahead = HashAhead(threads=2)
    ahead.expect(paths)
    paths[0].unlink()
    paths[1].unlink()
    for path in paths[:2]:
        with pytest.raises(FileNotFoundError):
            ahead.digest(path)
    assert [ahead.digest(path) for path in paths[2:]] == [sha256(path) for path in paths[2:]]
    with pytest.raises(FileNotFoundError):
        ahead.digest(tmp_path / "never there")


def test_a_file_that_vanishes_when_it_was_hashed_ahead_already(tmp_path: Path) -> None:
    """The digest of what was there, or its absence; but an answer."""
    paths = write_files(tmp_path)
    digest = sha256(paths[3])
    ahead = HashAhead(threads=2)
    ahead.expect(paths)
    ahead.digest(paths[1])
    paths[3].unlink()
    with within(10):
        try:
            assert ahead.digest(paths[3]) == digest
        except FileNotFoundError:
            assert not paths[3].exists()


@pytest.mark.parametrize("kind", IRREGULAR)
@pytest.mark.parametrize("number", [2, 3], ids=["small", "large"])
def test_irregular_files(tmp_path: Path, kind: str, number: int) -> None:
    paths = write_files(tmp_path)
    replace_by(kind, paths[number])
    ahead = HashAhead(threads=2)
    ahead.expect(paths)
    with within(30):
        for path in paths:
            if path == paths[number]:
                with pytest.raises(IrregularFileError, match=f"{path.name} is a"):
                    ahead.digest(path)
            else:
                assert ahead.digest(path) == sha256(path)


FORKING = """
import os, signal, sys
from pathlib import Path
from enginery.digest import sha256_file
from enginery.hash_ahead import HashAhead

signal.alarm(30)
paths = [Path(argument) for argument in sys.argv[1:]]
for asked in (0, 1, 5):
    ahead = HashAhead(threads=2)
    ahead.expect(paths)
    for path in paths[:asked]:
        ahead.digest(path)
    child = os.fork()
    if child == 0:
        signal.alarm(5)  # ends a child that waits for threads that it does not have
        good = [ahead.digest(path) for path in paths] == [sha256_file(path) for path in paths]
        os._exit(0 if good else 3)
    good = [ahead.digest(path) for path in paths] == [sha256_file(path) for path in paths]
    _, status = os.waitpid(child, 0)
    if status or not good:
        sys.exit(f"after {asked} questions: child's status {status}, parent good: {good}")
"""


def test_parent_and_child_go_on_after_a_fork(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.engine" for number in range(12)]
    for path in paths:
        path.write_bytes(path.name.encode())
        os.truncate(path, LARGE)
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, *paths],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_no_more_threads_than_allowed(files: dict[Path, str]) -> None:
    script = (
        "import sys, threading; from pathlib import Path; "
        "from enginery.hash_ahead import HashAhead; "
        "paths = [Path(a) for a in sys.argv[1:]] * 10; "
        "ahead = HashAhead(threads=2); ahead.expect(paths); "
        "[ahead.digest(path) for path in paths]; "
        "sys.exit(threading.active_count() > 3)"
    )
    run = subprocess.run([sys.executable, "-c", script, *files], timeout=60, check=False)
    assert run.returncode == 0
