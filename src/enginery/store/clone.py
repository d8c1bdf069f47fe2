"""Copying a large file into the store or out of it, hashed on the way.

Where the file system can share blocks between files, it does, and the new file is read once to
hash it; a write to either of the two leaves the other alone. Elsewhere it is read once, and what
was read is hashed in a second thread while it is written.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..digest import CHUNK, sha256_file
from ..errors import StoreError

# linux/fs.h: _IOW(0x94, 9, int), as x86 and ARM spell it; elsewhere it fails, and a copy is made.
_FICLONE = 0x40049409


def clone(source: int, output: Path) -> str:
    """Copy an open file to a new one; the SHA-256 of the new one's bytes.

    Args:
        source: Descriptor of a regular file, read from its beginning.
        output: Where to; not there before, and not there after an error.

    Raises:
        StoreError: The source cannot be read.
        OSError: The output cannot be written, or is there already.
    """
    with output.open("xb", buffering=0) as stream:
        try:
            if _shared(source, stream.fileno()):
                return sha256_file(output)
            return _copied(source, stream.fileno())
        except BaseException:
            output.unlink(missing_ok=True)
            raise


def _shared(source: int, output: int) -> bool:
    with suppress(ImportError, OSError):
        import fcntl  # POSIX has it

        fcntl.ioctl(output, _FICLONE, source)
        return True
    return False


def _copied(source: int, output: int) -> str:
    from concurrent.futures import ThreadPoolExecutor  # slow to import

    hasher = hashlib.sha256()
    with ThreadPoolExecutor(max_workers=1) as pool:
        hashed = pool.submit(hasher.update, b"")
        for view in _chunks(source):
            hashed.result()
            hashed = pool.submit(hasher.update, view)
            _write(output, view)
        hashed.result()
    return hasher.hexdigest()


def _chunks(source: int) -> Iterator[memoryview]:
    """The file piece by piece, in two buffers by turns: what came last is still as it was."""
    buffers = tuple(memoryview(bytearray(CHUNK)) for _ in range(2))
    with open(source, "rb", buffering=0, closefd=False) as raw:
        try:
            raw.seek(0)
            for view in itertools.cycle(buffers):
                count = raw.readinto(view)
                if not count:
                    return
                yield view[:count]
        except OSError as error:
            raise StoreError(f"it cannot be read: {error.strerror}") from error


def _write(output: int, view: memoryview) -> None:
    while view.nbytes:
        view = view[os.write(output, view) :]
