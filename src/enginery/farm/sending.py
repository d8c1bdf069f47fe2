"""The way of inputs to a worker: in pieces, hashed as they are read, never whole in memory."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..digest import open_regular
from ..errors import EngineBuildError, IrregularFileError
from ..plan import changed

if TYPE_CHECKING:
    from .link import Link

PIECE = 4 << 20
"""Bytes that are under way at a time, in either direction."""


async def send(link: Link, address: str, sha256: str, size: int, path: Path) -> None:
    """Send a file to a worker, if it is still missing there.

    The last piece is held back until the digest of all of them is known.

    Raises:
        InputChangedError: It is no more what it was when the build was asked for.
        FarmError: The worker refuses it.
        LostError: The worker is gone.
    """
    async with link.line_to(address) as ask:
        if await ask("enginery_missing", digests=[sha256]):
            await _send(ask, sha256, size, path)


async def _send(ask: Callable[..., Any], sha256: str, size: int, path: Path) -> None:
    reader = await asyncio.to_thread(_Reader, path, size)
    try:
        offset, piece = 0, await asyncio.to_thread(reader.piece)
        while True:
            # The next one is read and hashed while this one is under way.
            last = offset + len(piece) >= size
            following = None if last else asyncio.ensure_future(asyncio.to_thread(reader.piece))
            if last and reader.hexdigest() != sha256:
                raise changed({path.name})
            await ask("enginery_put", sha256=sha256, size=size, offset=offset, data=piece)
            if following is None:
                return
            offset, piece = offset + len(piece), await following
    finally:
        reader.close()


class _Reader:
    """Reads a file piece by piece and hashes what it reads; each call in a thread."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._hash = hashlib.sha256()
        try:
            self._fd, info = open_regular(path, follow_symlinks=True)
        except (OSError, IrregularFileError) as error:
            raise EngineBuildError(f"{path} cannot be read any more: {error}") from error
        if info.st_size != size:
            os.close(self._fd)
            raise changed({path.name})

    def piece(self) -> bytes:
        """The next bytes; fewer than a piece at the end."""
        try:
            data = os.read(self._fd, PIECE)
        except OSError as error:
            raise EngineBuildError(f"{self._path} cannot be read: {error}") from error
        self._hash.update(data)
        return data

    def hexdigest(self) -> str:
        """The digest of all that was read."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
