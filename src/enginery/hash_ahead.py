"""Hashing large engines ahead of the question, in threads: hashlib releases the GIL.

doit asks task after task, in one thread. Whoever knows the order in which it will ask can have
the next engines hashed by then.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from .digest import sha256_file
from .errors import IrregularFileError

# Below this a thread costs more than it saves.
_LARGE = 4 << 20


class _Pending:
    """A digest that is being worked out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done = threading.Event()
        self._result: str | OSError | IrregularFileError | None = None

    def work(self) -> None:
        try:
            self._result = sha256_file(self.path)
        except (OSError, IrregularFileError) as error:
            self._result = error
        self.done.set()

    def result(self) -> str:
        self.done.wait()
        if not isinstance(self._result, str):
            assert self._result is not None  # noqa: S101 - done is set after the result
            raise self._result
        return self._result


class HashAhead:
    """Digests of files that will be asked for in a known order.

    Each digest is given out once: a second question hashes the file again.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads or min(os.cpu_count() or 1, 8)
        self._order: list[Path] = []
        self._place: dict[Path, int] = {}
        self._next = 0
        self._pending: dict[Path, _Pending] = {}
        self._queue: deque[_Pending] = deque()
        self._wake = threading.Condition()
        self._workers = 0
        self._survives_fork = False

    def expect(self, paths: Iterable[Path]) -> None:
        """Say which files will be asked for after those that are expected already."""
        for path in paths:
            self._place[path] = len(self._order)
            self._order.append(path)

    def digest(self, path: Path) -> str:
        """SHA-256 of a file; see `digest.sha256_file`."""
        if self._threads > 1:
            self._start_from(path)
        pending = self._pending.pop(path, None)
        return pending.result() if pending else sha256_file(path)

    def settle(self) -> None:
        """Wait until no thread hashes: a process must not fork while one does."""
        for pending in list(self._pending.values()):
            pending.done.wait()

    def _without_threads(self) -> None:
        # A child has none of its parent's threads, and the lock as one of them may have held it.
        self._workers = 0
        self._wake = threading.Condition()

    def _start_from(self, path: Path) -> None:
        """Have the file and those after it hashed, no further ahead than the threads reach."""
        self._next = max(self._next, self._place.get(path, 0))
        ahead = 2 * self._threads - len(self._pending)
        while ahead > 0 and self._next < len(self._order):
            candidate = self._order[self._next]
            self._next += 1
            if _is_large(candidate) and candidate not in self._pending:
                self._submit(_Pending(candidate))
                ahead -= 1

    def _submit(self, pending: _Pending) -> None:
        self._pending[pending.path] = pending
        with self._wake:
            self._queue.append(pending)
            self._wake.notify()
        if self._workers < self._threads:
            if not self._survives_fork and hasattr(os, "register_at_fork"):
                os.register_at_fork(before=self.settle, after_in_child=self._without_threads)
                self._survives_fork = True
            self._workers += 1
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._queue:
                    self._wake.wait()
                pending = self._queue.popleft()
            pending.work()


def _is_large(path: Path) -> bool:
    try:
        return path.lstat().st_size >= _LARGE
    except OSError:
        return False
