"""Writing several new files: all of them or none, and none over another."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from ..atomic import staged, sync
from ..errors import EngineryError

# What file systems without hard links say to one.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def check_absent(folder: Path, names: Iterable[str]) -> None:
    """Raise EngineryError where one of these is in the folder, whatever it is."""
    there = [name for name in names if os.path.lexists(folder / name)]
    if there:
        raise _in_the_way(folder, there)


def write_new(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files that are not there yet, in this order.

    Raises:
        EngineryError: One of them is there, or the folder cannot be written. None was written.
    """
    name = ""
    # Also after Ctrl-C.
    with ExitStack() as undo:
        try:
            for name, data in contents.items():
                _write(folder / name, data)
                undo.callback((folder / name).unlink)
            sync(folder)
        except FileExistsError as error:
            raise _in_the_way(folder, [name]) from error
        except OSError as error:
            raise EngineryError(
                f"{folder}: cannot be written ({error.strerror}); nothing was: make room or give "
                "permission, or name another folder"
            ) from error
        undo.pop_all()


def _write(path: Path, data: bytes) -> None:
    with staged(path) as temporary:
        temporary.write_bytes(data)
        sync(temporary)
        try:
            # Unlike a rename, a link fails where there is something.
            path.hardlink_to(temporary)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from error
            temporary.rename(path)


def _in_the_way(folder: Path, names: list[str]) -> EngineryError:
    are = "is" if len(names) == 1 else "are"
    return EngineryError(
        f"{folder}: {', '.join(names)} {are} there already, and nothing is overwritten; move "
        f"{'it' if len(names) == 1 else 'them'} away, or name another folder"
    )
