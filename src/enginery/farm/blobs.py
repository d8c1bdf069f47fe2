"""The input files of builds, by SHA-256, as they come in pieces from whoever asks for a build.

A file is hashed while it comes and gets its name when it is whole and is what it was announced to
be. Only what a build waits for is taken. What no build needs goes when the room is wanted, least
recently used first.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial as partial_of
from pathlib import Path
from typing import Any

import msgspec

from ..digest import is_sha256, sha256_bytes, sha256_file, short
from ..errors import EngineryError, FarmError
from ..recipe import EXTERNAL
from .request import BuildRequest

PIECE_LIMIT = 16 << 20
"""Bytes that are taken at a time."""

_MARGIN = 64 << 20


class _Partial(msgspec.Struct):
    """A file that is coming."""

    path: Path
    size: int
    hasher: Any
    received: int = 0


class InputBlobs:
    """A folder of input files; safe in any thread.

    Attributes:
        folder: Where they are.
    """

    def __init__(self, folder: Path, *, keep_bytes: int) -> None:
        """Say where they are and how many bytes of them are kept when no build needs them.

        Whatever a process that is gone left half received is cleared.
        """
        self.folder = folder
        self._keep_bytes = keep_bytes
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._wanted: dict[str, int] = {}
        self._in_use: Counter[str] = Counter()
        self._partial: dict[tuple[str, str], _Partial] = {}
        self._heard: dict[str, float] = {}
        self._failed: dict[str, OSError] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.part"):
            leftover.unlink()

    def path(self, sha256: str) -> Path:
        """Where a file is, or would be."""
        return self.folder / sha256

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Which of these are not here."""
        return [
            one for one in dict.fromkeys(digests)
            if not (is_sha256(one) and self.path(one).is_file())
        ]  # fmt: skip

    @contextmanager
    def wanted(self, sizes: dict[str, int]) -> Iterator[None]:
        """Take files with these digests and sizes, and keep those that are here.

        Raises:
            FarmError: There is no room for them, or another build has other sizes.
        """
        with self._lock:
            for one, size in sizes.items():
                if self._wanted.get(one, size) != size:
                    raise FarmError(f"another build has the file {short(one)} with another size")
            self._in_use.update(sizes.keys())
            self._wanted.update(sizes)
        try:
            self._make_room(sum(sizes[one] for one in self.missing(sizes)))
            for one in self.missing(one for one, size in sizes.items() if size == 0):
                # There is nothing to send.
                if one == sha256_bytes(b""):
                    self.path(one).touch()
            yield
        finally:
            with self._lock:
                self._in_use.subtract(sizes.keys())
                self._in_use += Counter()
                over = sizes.keys() - self._in_use.keys()
                for one in over:
                    del self._wanted[one]
                    self._heard.pop(one, None)
                    self._failed.pop(one, None)
            for key in [key for key in list(self._partial) if key[1] in over]:
                self._forget(key)
            self.prune()

    def heard(self, digests: Iterable[str]) -> float:
        """When the last piece of any of these came, by the monotonic clock; 0.0 for never."""
        with self._lock:
            return max((self._heard.get(one, 0.0) for one in digests), default=0.0)

    def check(self, digests: Iterable[str]) -> None:
        """Raise what the disk said when it did not take a piece of one of these."""
        with self._lock:
            for one in digests:
                if one in self._failed:
                    raise self._failed[one]

    def wait(self, seconds: float) -> None:
        """Wait until a file is whole, or for so long."""
        with self._changed:
            self._changed.wait(seconds)

    def notify(self) -> None:
        """Wake who waits: there is something to look at."""
        with self._changed:
            self._changed.notify_all()

    def adopt(self, part: Path, sha256: str) -> None:
        """Give a file its name that is whole, and was hashed while it came."""
        # Not synced: what a power failure damages is found out when it is used, and sent again.
        # Nobody is to write to it through a hard link.
        part.chmod(0o444)
        part.replace(self.path(sha256))
        self.notify()

    def expect(
        self, sender: str, sha256: str, size: int, offset: int, data: bytes
    ) -> Callable[[], None]:
        """Check a piece of a file; what hashes and writes it, which takes its time.

        Pieces come in order, each when the one before is kept, and the last one makes it whole.

        Args:
            sender: Who sends it; two may send the same file at a time.
            sha256: Digest of the whole file.
            size: Its size.
            offset: Where the piece belongs.
            data: The piece.

        Raises:
            FarmError: No build waits for it, or the piece is not the next one, or the file is not
                what it was said to be; what had come of it is gone. So does what is returned.
            OSError: The disk does not take it. So does what is returned.
        """
        if not is_sha256(sha256) or len(data) > PIECE_LIMIT:
            raise FarmError("a piece of a file is refused: no digest, or larger than 16 MiB")
        with self._lock:
            expected = self._wanted.get(sha256)
            if expected is None or expected != size:
                raise FarmError(f"no build waits for a file {short(sha256)} of {size} bytes")
        if self.path(sha256).is_file():
            return lambda: None
        key = sender, sha256
        try:
            partial = self._expecting(key, size, offset, len(data))
        except (FarmError, OSError) as error:
            self._give_up(key, error)
            raise
        with self._lock:
            self._heard[sha256] = time.monotonic()
        return partial_of(self._keep, key, partial, data)

    def prune(self) -> None:
        """Drop what no build needs, least recently used first, down to what is kept."""
        self._drop(self._keep_bytes)

    def drop_damaged(self, digests: Iterable[str]) -> list[str]:
        """Hash files again and drop those that are no more what they were; their digests."""
        damaged = []
        for one in digests:
            with suppress(FileNotFoundError):
                try:
                    sound = sha256_file(self.path(one)) == one
                except EngineryError:
                    sound = False
                if not sound:
                    damaged.append(one)
                    self.path(one).unlink()
        return damaged

    def _keep(self, key: tuple[str, str], partial: _Partial, data: bytes) -> None:
        try:
            self._append(partial, data)
        except OSError as error:
            self._give_up(key, error)
            raise
        if partial.received == partial.size:
            self._finish(key, partial, key[1])

    def _expecting(self, key: tuple[str, str], size: int, offset: int, length: int) -> _Partial:
        if offset == 0:
            self._forget(key)
            path = self.folder / f"{key[1]}.{os.urandom(4).hex()}.part"
            self._partial[key] = _Partial(path, size, hashlib.sha256())
            path.touch(exist_ok=False)
        partial = self._partial.get(key)
        if partial is None or partial.received != offset:
            raise FarmError(
                f"a piece of the file {short(key[1])} at {offset} is not the next one; "
                "begin again at 0"
            )
        if offset + length > size or not length:
            raise FarmError(f"the file {short(key[1])} is not of the size that was announced")
        return partial

    def _append(self, partial: _Partial, data: bytes) -> None:
        # One that was given up meanwhile is not to come into being again.
        fd = os.open(partial.path, os.O_WRONLY | os.O_APPEND)
        with os.fdopen(fd, "ab", buffering=0) as stream:
            view = memoryview(data)
            while view.nbytes:
                view = view[stream.write(view) :]
        partial.hasher.update(data)
        partial.received += len(data)

    def _finish(self, key: tuple[str, str], partial: _Partial, sha256: str) -> None:
        found = partial.hasher.hexdigest()
        if found != sha256:
            self._forget(key)
            raise FarmError(f"the file {short(sha256)} is refused: its bytes are {short(found)}")
        self._partial.pop(key, None)
        self.adopt(partial.path, sha256)

    def _give_up(self, key: tuple[str, str], error: Exception) -> None:
        """Forget what came of a file; where the disk does not take it, who waits is told."""
        with suppress(OSError):
            self._forget(key)
        if isinstance(error, OSError):
            with self._changed:
                self._failed[key[1]] = error
                self._changed.notify_all()

    def _forget(self, key: tuple[str, str]) -> None:
        partial = self._partial.pop(key, None)
        if partial is not None:
            partial.path.unlink(missing_ok=True)

    def _make_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.folder).free - _MARGIN
        if needed > free:
            self._drop(max(self._held() - (needed - free), 0))
            free = shutil.disk_usage(self.folder).free - _MARGIN
        if needed > free:
            raise FarmError(
                f"the inputs need {needed / 1e9:.1f} GB and the worker's disk has "
                f"{max(free, 0) / 1e9:.1f} GB free; make room in {self.folder}"
            )

    def _held(self) -> int:
        return sum(size for _, size, _ in self._files())

    def _files(self) -> list[tuple[float, int, Path]]:
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if is_sha256(entry.name):
                    info = entry.stat(follow_symlinks=False)
                    found.append((info.st_mtime, info.st_size, Path(entry.path)))
        return sorted(found)

    def _drop(self, keep_bytes: int) -> None:
        with self._lock:
            files = self._files()
            held = sum(size for _, size, _ in files)
            for _, size, path in files:
                if held <= keep_bytes:
                    return
                if path.name not in self._in_use:
                    path.unlink(missing_ok=True)
                    held -= size


def laid_out(request: BuildRequest, blobs: InputBlobs, folder: Path) -> None:
    """Put a request's inputs into a folder under their names: hard links, or else copies.

    Raises:
        FarmError: A name is one that the file system does not take, or a file is gone.
    """
    for one in request.inputs:
        source, target = blobs.path(one.sha256), folder / one.name
        try:
            os.utime(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(source, target, link=not one.role.startswith(EXTERNAL))
        except (OSError, ValueError) as error:
            raise FarmError(f"the input {one.name!r} cannot be laid out: {error}") from error


def _link_or_copy(source: Path, target: Path, *, link: bool) -> None:
    if link:
        with suppress(OSError):  # another file system, or one without links
            os.link(source, target)
            return
    # onnx takes a hard link among external data for an attack, and refuses it.
    shutil.copyfile(source, target)
