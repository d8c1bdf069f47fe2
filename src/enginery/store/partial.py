"""A blob on its way in: as far as it has come, hashed, and kept for another day if it broke off."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from ..digest import CHUNK, is_sha256
from .manifest import Descriptor

_SUFFIX = ".partial"

# Less than that is not worth a file; what nobody came back for in a week is not worth it either.
_WORTH_KEEPING = 1 << 20
_KEPT_S = 7 * 86400.0


class Partial:
    """A file that becomes a blob, written from its start to its end.

    What broke off is parked in a folder under its digest, and the next download of the same blob
    goes on from there. It is hashed again then, so a parked file need not be trusted.

    Attributes:
        size: Bytes that are there.
        adopted: Whether some of them were parked.
    """

    def __init__(self, blob: Descriptor, output: Path, parking: Path | None) -> None:
        self.size = 0
        self.adopted = False
        self._blob = blob
        self._output = output
        self._parked = None if parking is None else parking / f"{blob.sha256_hex}{_SUFFIX}"
        self._hasher = hashlib.sha256()

    def __enter__(self) -> Partial:
        # Whoever renames it has it; two downloads of one blob do not share a file.
        with suppress(OSError):
            if self._parked and self._parked.is_file() and not self._parked.is_symlink():
                self._parked.rename(self._output)
                self.adopted = True
        self._stream = self._output.open("r+b" if self.adopted else "xb")
        return self

    def take_up(self) -> None:
        """Hash what was adopted, to go on from there."""
        while piece := self._stream.read(CHUNK):
            self._hasher.update(piece)
            self.size += len(piece)
        if self.size > self._blob.size:
            self.restart()

    def write(self, piece: bytes) -> None:
        """Add what came.

        Raises:
            OSError: The disk is full.
        """
        self.size += len(piece)
        self._hasher.update(piece)
        self._stream.write(piece)

    def restart(self) -> None:
        """Forget what is there."""
        self._stream.seek(0)
        self._stream.truncate()
        self._hasher = hashlib.sha256()
        self.size = 0
        self.adopted = False

    def is_blob(self) -> bool:
        """Whether what is there is the blob, whole."""
        self._stream.flush()
        return self.size == self._blob.size and self._hasher.hexdigest() == self._blob.sha256_hex

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()
        if error is None:
            return
        # Too long is wrong; whole and still an error is wrong too. What is short may be right.
        if self._parked and _WORTH_KEEPING <= self.size < self._blob.size:
            with suppress(OSError):
                self._park(self._parked)
        self._output.unlink(missing_ok=True)

    def _park(self, parked: Path) -> None:
        parked.parent.mkdir(parents=True, exist_ok=True)
        for other in parked.parent.glob(f"*{_SUFFIX}"):
            ours = is_sha256(other.name.removesuffix(_SUFFIX))
            if ours and other.stat().st_mtime < time.time() - _KEPT_S:
                other.unlink(missing_ok=True)
        self._output.replace(parked)
