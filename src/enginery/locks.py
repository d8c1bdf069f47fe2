"""One build per artifact at a time. Locks save work; correctness never rests on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of an artifact; waits for another process that holds it.

    The lock file goes away with the lock: filelock notices a file that was unlinked under it
    and takes a new one.
    """
    from filelock import FileLock  # 40 ms to import, and needed only where something is built

    lock_path = path.with_name(f".{path.name}.lock")
    with FileLock(lock_path):
        try:
            yield
        finally:
            with suppress(OSError):  # an open file cannot be removed on Windows
                lock_path.unlink()


@contextmanager
def locked_now(path: Path) -> Iterator[bool]:
    """Hold the lock of an artifact if nobody else does; yields whether it is held."""
    from filelock import FileLock, Timeout

    lock_path = path.with_name(f".{path.name}.lock")
    lock = FileLock(lock_path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        with suppress(OSError):
            lock_path.unlink()
        lock.release()
