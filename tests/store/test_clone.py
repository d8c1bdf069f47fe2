"""Copying: a file of its own with the same bytes and their digest, or nothing."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from stores import sha256

from enginery.errors import StoreError
from enginery.store.clone import clone

DATA = os.urandom(1 << 20) * 3 + b"end"


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(DATA)
    return path


def test_a_copy(source: Path, tmp_path: Path) -> None:
    """Again from the same descriptor too: each time from the beginning."""
    with opened(source) as fd:
        for name in ("one", "two"):
            assert clone(fd, tmp_path / name) == sha256(DATA)
            assert (tmp_path / name).read_bytes() == DATA


@pytest.mark.parametrize("damage", [bytes, lambda data: b"x" + data[1:]])
def test_where_blocks_are_shared_the_new_file_is_hashed(
    source: Path, tmp_path: Path, damage: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel of a file system that shares blocks, stood in for: few machines have one."""

    def shares(output: int, request: int, shared: int) -> int:
        assert request == 0x40049409
        os.pwrite(output, damage(os.pread(shared, 1 << 30, 0)), 0)
        return 0

    monkeypatch.setattr(fcntl, "ioctl", shares)
    with opened(source) as fd:
        assert clone(fd, tmp_path / "output") == sha256(damage(DATA))
    assert (tmp_path / "output").read_bytes() == damage(DATA)


def test_a_source_that_cannot_be_read(tmp_path: Path) -> None:
    """A process's own memory, whose first page is never there: an error as of a bad disk."""
    with opened(Path("/proc/self/mem")) as fd, pytest.raises(StoreError, match="cannot be read"):
        clone(fd, tmp_path / "output")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_there(source: Path, tmp_path: Path) -> None:
    (tmp_path / "output").write_bytes(b"someone's")
    with opened(source) as fd, pytest.raises(FileExistsError):
        clone(fd, tmp_path / "output")
    assert (tmp_path / "output").read_bytes() == b"someone's"


def test_an_output_that_cannot_be_written(source: Path, tmp_path: Path) -> None:
    with opened(source) as fd, pytest.raises(FileNotFoundError):
        clone(fd, tmp_path / "missing" / "output")
