"""Hashing and reading files without trusting what they are.

Whatever lies at a path may be a directory, a FIFO that blocks its reader for ever, a symlink to
somewhere else, or a file of any size. Everything that enginery believes is read through the two
functions here: they open without blocking, look at what they opened, and only then read.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from pathlib import Path
from typing import Any

from .errors import IrregularFileError

# 1 MiB reads reach 0.92 of OpenSSL's own speed (docs/performance.md); larger ones gain nothing.
CHUNK = 1 << 20

_HEX = frozenset("0123456789abcdef")

# Windows has none of these but O_BINARY, and no symlinks or FIFOs without some effort.
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


def short(sha256_hex: str) -> str:
    """The first 12 hex digits of a digest: enough to tell two apart in a message."""
    return sha256_hex[:12]


def is_sha256(text: str) -> bool:
    """Whether a text is a SHA-256 as this package writes it: 64 lower-case hex digits."""
    return len(text) == 64 and _HEX.issuperset(text)


def open_regular(path: Path, *, follow_symlinks: bool) -> tuple[int, os.stat_result]:
    """Open a regular file for reading; its descriptor, which the caller closes, and its status.

    Raises:
        IrregularFileError: The path is a symlink (unless followed), or no regular file.
        OSError: The path is not there or may not be read.
    """
    try:
        fd = os.open(path, _OPEN | (0 if follow_symlinks else _NO_FOLLOW))
    except OSError as error:
        if not follow_symlinks and path.is_symlink():
            raise IrregularFileError(f"{path.name} is a symlink, not a regular file") from error
        raise
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        os.close(fd)
        raise IrregularFileError(f"{path.name} is {_kind(info.st_mode)}, not a regular file")
    return fd, info


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of bytes in memory as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path, *, follow_symlinks: bool = False) -> str:
    """SHA-256 of a regular file's bytes as 64 lower-case hex digits.

    Raises:
        IrregularFileError: The path is no regular file.
        OSError: The path is not there or may not be read.
    """
    fd, info = open_regular(path, follow_symlinks=follow_symlinks)
    try:
        return _hash(fd, info.st_size)
    finally:
        os.close(fd)


def read_regular(path: Path, *, limit: int, follow_symlinks: bool = False) -> bytes:
    """The bytes of a small regular file.

    Args:
        path: The file.
        limit: Largest size in bytes that is still read; guards memory against a wrong file.
        follow_symlinks: Whether a symlink to a regular file will do.

    Raises:
        IrregularFileError: The path is no regular file, or is larger than `limit`.
        OSError: The path is not there or may not be read.
    """
    fd, info = open_regular(path, follow_symlinks=follow_symlinks)
    try:
        if info.st_size > limit:
            raise IrregularFileError(f"{path.name} is larger than {limit} bytes")
        with open(fd, "rb", buffering=0, closefd=False) as raw:
            return raw.readall()
    finally:
        os.close(fd)


def write_hashed(path: Path, data: Any) -> str:
    """Write bytes to a new file and return their SHA-256; both at once, in two threads."""
    hasher = hashlib.sha256()
    thread = threading.Thread(target=hasher.update, args=(data,))
    thread.start()
    try:
        with path.open("xb", buffering=0) as stream:
            view = memoryview(data).cast("B")
            while view.nbytes:
                view = view[stream.write(view) :]
    finally:
        thread.join()
    return hasher.hexdigest()


def _hash(fd: int, size: int) -> str:
    hasher = hashlib.sha256()
    view = memoryview(bytearray(min(CHUNK, size + 1)))
    with open(fd, "rb", buffering=0, closefd=False) as raw:
        while count := raw.readinto(view):
            hasher.update(view[:count])
    return hasher.hexdigest()


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a block device"),
        (stat.S_ISCHR, "a character device"),
    )
    return next((name for test, name in kinds if test(mode)), "something else")
