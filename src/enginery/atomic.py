"""Writing files so that they are there whole or not there at all.

A file is written under a temporary name in the same folder, synced, and renamed. The temporary
names are recognisable, so that what a killed process left can be cleared by the next.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_HEX = frozenset("0123456789abcdef")


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; whatever is still there at the end is removed."""
    temporary = path.with_name(f".{path.name}.{random_hex()}.tmp")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a small file so that a reader sees the old bytes or the new ones, never a mixture.

    Raises:
        OSError: The folder is not there, is not writable, or is full; `path` is as it was.
    """
    with staged(path) as temporary:
        temporary.write_bytes(data)
        commit(temporary, path)


def commit(temporary: Path, path: Path) -> None:
    """Sync a finished temporary file and give it its name.

    A directory in the way is moved aside, never removed: it may hold something of someone's.
    """
    sync(temporary)
    _move_aside(path)
    temporary.replace(path)


def clear(path: Path) -> None:
    """Remove a file, if it is there. A directory in its place is moved aside, as by `commit`."""
    _move_aside(path)
    path.unlink(missing_ok=True)


def _move_aside(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name(f"{path.name}.aside-{random_hex()}"))


def sync(path: Path) -> None:
    """Flush a file or folder to the disk, as far as the platform can."""
    fd = os.open(path, os.O_RDONLY)
    try:
        with suppress(PermissionError):  # Windows cannot sync what is open for reading only
            os.fsync(fd)
    finally:
        os.close(fd)


def leftovers(paths: Iterable[Path]) -> list[Path]:
    """Temporary files that a killed process left while it wrote one of these files."""
    paths = tuple(paths)
    names = {path.name for path in paths}
    found: list[Path] = []
    for folder in {path.parent for path in paths}:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            found += [
                Path(entry.path)
                for entry in entries
                if staged_for(entry.name) in names and not entry.is_dir(follow_symlinks=False)
            ]
    return sorted(found)


def clear_leftovers(paths: Iterable[Path]) -> None:
    """Remove what `leftovers` finds; for whoever holds the lock of these files."""
    for leftover in leftovers(paths):
        leftover.unlink(missing_ok=True)


def random_hex() -> str:
    """Eight hex digits that no other process has."""
    return os.urandom(4).hex()


def staged_for(name: str) -> str | None:
    """The name of the file that a temporary name of ours was made for."""
    for_, _, affix = name.removesuffix(".tmp").rpartition(".")
    ours = name.endswith(".tmp") and len(affix) == 8 and _HEX.issuperset(affix)
    return for_.removeprefix(".") if ours and for_.startswith(".") else None
